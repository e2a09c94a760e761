import io
import json

import pytest
from rich.console import Console

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import StageConfig, StudentConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.loop import checkpoint
from gecko_train.loop.watch import read_metrics
from gecko_train.run.stage import load_student, loop_evaluation, train_stage

TRAINER = {"batch_size": 8, "max_steps": 4, "checkpoint_every": 2, "precision": "fp32", "keep_checkpoints": 1}


@pytest.fixture
def pairs(tmp_path):
    """A file of 30 pairs and a BEIR folder made of the same texts."""
    texts = [(f"bank {n} dort", f"lims {n} sonk mull bart") for n in range(30)]
    path = tmp_path / "natural.jsonl"
    path.write_text("".join(json.dumps({"query": q, "positive": p}) + "\n" for q, p in texts))
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    (beir / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": f"d{n}", "title": "", "text": p}) + "\n" for n, (_, p) in enumerate(texts))
    )
    (beir / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{n}", "text": q}) + "\n" for n, (q, _) in enumerate(texts))
    )
    (beir / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(30))
    )
    return path, beir


def run(model, folder, stage):
    config = StageConfig.model_validate(stage)
    return config, train_stage(
        model,
        config,
        SourceContext(),
        folder,
        dims=(32, 16),
        title="t",
        identity="m",
        console=Console(file=io.StringIO()),
    )


def test_evaluation_in_the_loop_marks_the_best_checkpoint_and_the_record_names_the_sets(tiny_model, pairs, tmp_path):
    path, beir = pairs
    loop = {"sets": [str(beir)], "max_queries": 10, "max_documents": 20}
    sets = [{"source": "pairs", "path": str(path), "name": "mine"}]
    tiny_model.dims = (32,)  # as a folder of sentence-transformers has them: the recipe's are measured
    config, result = run(tiny_model, tmp_path / "run", {"sets": sets, "trainer": {**TRAINER, "evaluate": loop}})
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert ["eval/mean@32" in line for line in lines] == [False, True, False, True]
    assert lines[1]["eval/beir/ndcg_at_10@16"] >= 0
    kept = checkpoint.checkpoints(tmp_path / "run" / "checkpoints")
    assert result.summary.best_step in {saved.step for saved in kept}
    assert kept[-1].state["score"] == lines[3]["eval/mean@32"]
    record = result.record(config)
    assert record["sources"] == ["mine", "natural.jsonl"]
    from gecko_eval.report import training_sets

    assert {"mine", "natural.jsonl"} <= set(training_sets({"stages": {"finetune": record}}))


def test_a_set_that_no_row_is_drawn_from_is_not_counted(tiny_model, pairs, tmp_path):
    one, other = ({"source": "pairs", "path": str(pairs[0]), "name": name} for name in ("drawn", "left"))
    sets = [one | {"weight": 1}, other | {"weight": 0}]
    _, result = run(tiny_model, tmp_path / "run", {"sets": sets, "trainer": TRAINER})
    assert result.rows == {"drawn": 30}


def test_a_set_for_the_loop_that_is_not_there_is_named():
    from gecko_train.config import LoopConfig

    assert loop_evaluation(None) is None
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        loop_evaluation(LoopConfig(sets=["nowhere"]))


def test_a_teacher_is_loaded_and_matched(tiny_model, tiny_backbone, pairs, tmp_path):
    from gecko_core import Gecko

    teacher = tmp_path / "teacher"
    Gecko.from_backbone(tiny_backbone, dims=(32,), device="cpu").save_pretrained(teacher)
    stage = {
        "sets": [{"source": "pairs", "path": str(pairs[0])}], "trainer": TRAINER, "teacher": str(teacher),
        "objective": {"matching": {"weight": 1.0}},
    }  # fmt: skip
    run(tiny_model, tmp_path / "run", stage)
    assert all("matching" in line for line in read_metrics(tmp_path / "run" / "metrics.jsonl"))
    with pytest.raises(ValueError, match=r"`teacher` and .* go together"):
        StageConfig.model_validate({**stage, "teacher": None})


@pytest.fixture
def taught(tiny_backbone, corpus_file, tmp_path):
    """A stage of blocks over the texts of a corpus and a query log, with a saved teacher; only the teacher's word."""
    from gecko_core import Gecko

    Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu").save_pretrained(tmp_path / "teacher-model")
    (tmp_path / "log.txt").write_text("bank dort lims\nsonk mull\n")
    options = {"kinds": ["titles", "queries"], "queries": str(tmp_path / "log.txt"), "candidates": 6}
    blocks = {"documents": 16, "queries": 12, "shared": 2}
    return {
        "sets": [{"source": "texts", "path": str(corpus_file), "options": options, "blocks": blocks}],
        "teacher": str(tmp_path / "teacher-model"), "trainer": {**TRAINER, "max_steps": 12, "learning_rate": 1e-3},
        "objective": {"contrastive_weight": 0, "block": {"weight": 1, "targets": "teacher"}},
    }  # fmt: skip


def test_a_corpus_and_a_query_log_are_taught_by_a_teacher_in_blocks(tiny_model, taught, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    _, result = run(tiny_model, tmp_path / "run", taught | {"teacher_cache": str(cache)})
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert result.rows == {"corpus": 62}
    assert lines[-1]["block"] < lines[0]["block"]
    assert {"block_queries", "block_documents"} <= lines[0].keys()
    assert not (tmp_path / "run" / "teacher").exists()
    from gecko_core import Gecko

    encode = Gecko.encode  # a second run finds the vectors
    monkeypatch.setattr(Gecko, "encode", lambda self, texts, *rest, **more: pytest.fail("computed again"))
    run(tiny_model, tmp_path / "again", taught | {"teacher_cache": str(cache)})
    monkeypatch.setattr(Gecko, "encode", encode)


@pytest.mark.parametrize(("prompts", "style"), [("gecko", "gecko"), ("own", "plain")])
def test_the_start_models_own_prompts_can_be_kept(tiny_model, pairs, tmp_path, prompts, style):
    tiny_model.prompt_style = "plain"
    asked, formatted = [], tiny_model.format_queries
    tiny_model.format_queries = lambda texts, task: asked.extend(formatted(texts, task)) or formatted(texts, task)
    run(
        tiny_model,
        tmp_path / "run",
        {"sets": [{"source": "pairs", "path": str(pairs[0])}], "trainer": TRAINER, "prompts": prompts},
    )
    assert tiny_model.prompt_style == style
    assert asked
    assert all(text.startswith("task: ") == (style == "gecko") for text in asked)


def test_fret_lists_and_blocks_are_trained_on(tiny_model, corpus_file, tmp_path, monkeypatch):
    from gecko_fret import Candidate, FretRow
    from gecko_fret.corpus import load_corpus

    corpus = load_corpus(corpus_file)
    rows = []
    for number in range(40):
        own = [corpus[(number + step) % 60] for step in range(8)]
        values = [0.5, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01]
        candidates = [
            Candidate(passage.id, 0.5, None, None, None, None, value, {}, value)
            for passage, value in zip(own, values, strict=True)
        ]
        positive, negatives = (own[0], own[-1:]) if number % 4 else (None, [])
        rows.append(FretRow(f"r{number}", "search result", own[0].title, positive, negatives, None, None, candidates))
    data = type("Data", (list,), {"passage": staticmethod(lambda name, source: corpus.get(name))})(rows)
    monkeypatch.setattr("gecko_train.data.sources.fret.load_fret", lambda folder: data)
    blocks = {"documents": 16, "queries": 12, "shared": 2}
    lists = {"kl": {"weight": 1.0, "documents": 5}, "block": {"weight": 0}}
    stage = {
        "sets": [
            {"source": "fret", "path": str(tmp_path), "name": "blocks", "blocks": blocks},
            {"source": "fret", "path": str(tmp_path), "name": "lists", "objective": lists},
        ],
        "objective": {"contrastive_weight": 0.1, "false_negative_share": 0.6, "block": {"weight": 1}},
        "trainer": {**TRAINER, "max_steps": 30, "learning_rate": 1e-3},
    }
    _, result = run(tiny_model, tmp_path / "run", stage)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert result.rows == {"blocks": 40, "lists": 40}
    for name, term in (("blocks", "block"), ("lists", "kl")):
        own = [line[term] for line in lines if line["set"] == name]
        assert own[-1] < own[0]
    assert all(line["loss"] > 0 for line in lines)


def test_a_set_overrides_the_objective():
    override = {"same_tower": False, "hardness": 5.0, "kl": {"weight": 0.3}, "false_negative_margin": 0.1}
    sets = [{"source": "pairs", "path": "x", "objective": override}, {"source": "fret"}]
    stage = StageConfig.model_validate({"sets": sets, "objective": {"temperature": 0.1, "kl": {"documents": 4}}})
    overridden, plain = (stage.objective_of(set_config) for set_config in stage.sets)
    assert (overridden.same_tower, overridden.hardness, overridden.false_negative_margin) == (False, 5.0, 0.1)
    assert (overridden.kl.weight, overridden.kl.documents) == (0.3, 4)
    assert (overridden.temperature, overridden.negatives_scope) == (0.1, "own")
    assert plain == stage.objective


def test_dims_wider_than_the_model_are_one_line(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    message = r"student\.dims: 64 is not the 32 of .*model, and the widest must be the model's own: \[32, 16\]"
    with pytest.raises(ConfigError, match=message):
        load_student(StudentConfig(model=str(tmp_path / "model"), dims=[64, 16]), "cpu")
