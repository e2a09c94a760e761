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
    with pytest.raises(ConfigError, match=r"student\.dims: 64 is wider than the 32 of .*model; name at most that"):
        load_student(StudentConfig(model=str(tmp_path / "model"), dims=[64, 16]), "cpu")
