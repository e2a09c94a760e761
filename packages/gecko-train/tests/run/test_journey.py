"""The whole journey with a tiny student; the real LLM's turn is in the slow test at the end."""

import io
import json
import shutil

import pytest
from rich.console import Console

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError, GeckoError
from gecko_train.config import parse_recipe
from gecko_train.run.folder import RunFolder
from gecko_train.run.journey import Journey, run_recipe, run_stage
from gecko_train.run.steps.base import Step
from gecko_train.run.steps.corpus import ReadCorpus

TRAINER = {"batch_size": 8, "max_steps": 3, "learning_rate": 1e-3, "checkpoint_every": 2, "precision": "fp32"}


@pytest.fixture
def recipe(small_recipe, corpus_file, tmp_path):
    """Pre-finetuning and fine-tuning of the tiny backbone, the second on plain pairs instead of FRet."""
    pairs = tmp_path / "pairs.jsonl"
    passages = [json.loads(line) for line in corpus_file.read_text().splitlines()]
    rows = [{"query": passage["title"], "positive": passage["text"]} for passage in passages]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return small_recipe | {
        "prefinetune": {
            "sets": [{"source": "title-body"}],
            "trainer": TRAINER,
            "objective": {"same_tower": False, "hard_negatives": 0},
        },
        "finetune": {"sets": [{"source": "pairs", "path": str(pairs)}], "trainer": TRAINER},
    }  # fmt: skip


def run(recipe):
    screen = io.StringIO()
    results = run_recipe(parse_recipe(recipe), Console(file=screen, width=150))
    return results, screen.getvalue()


def test_the_journey_ends_with_a_table_a_verdict_and_a_model(recipe, tmp_path):
    results, screen = run(recipe)
    assert [(line["model"], line["dim"]) for line in results["scores"]] == [
        (model, dim) for model in ("start", "pre-finetuned", "fine-tuned") for dim in (32, 16)
    ]
    assert "Known-item search: 10 queries, 30 documents" in screen
    assert "fine-tuned, 16 dims: " in screen
    assert [stage["title"] for stage in results["stages"]][:2] == ["read the corpus", "evaluate the start model"]
    assert [line[:5] for line in screen.splitlines() if line.startswith("[")] == [f"[{n}/7]" for n in range(1, 8)]
    for name in ("model/gecko.json", "results.json", "recipe.yaml", "finetune/curves.png", "prefinetune/metrics.jsonl"):
        assert (tmp_path / "run" / name).exists()
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == results
    model = Gecko.from_pretrained(tmp_path / "run" / "model")
    assert model.dims == (32, 16)
    assert model.prompt_style == "gecko"
    assert model.encode_queries(["bank bart"]).shape == (1, 32)
    record = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())["record"]
    assert record["name"] == "tiny"
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    score = next(line for line in results["scores"] if (line["model"], line["dim"]) == ("fine-tuned", 16))
    assert f"| 16 | ndcg_at_10 | {score['ndcg_at_10']:.4f} |" in card
    assert "pairs.jsonl" in record["stages"]["finetune"]["sources"]


def test_without_finetuning_the_prefinetuned_model_is_the_result(recipe, tmp_path):
    recipe["finetune"]["enabled"] = False
    results, screen = run(recipe)
    assert "[4/4] evaluate" in screen
    model, before = (tmp_path / "run" / folder / "model.safetensors" for folder in ("model", "prefinetune/model"))
    assert model.read_bytes() == before.read_bytes()
    score = next(line for line in results["scores"] if (line["model"], line["dim"]) == ("pre-finetuned", 32))
    assert f"| 32 | ndcg_at_10 | {score['ndcg_at_10']:.4f} |" in (tmp_path / "run" / "model" / "README.md").read_text()


def test_a_new_step_is_one_class_in_the_list(recipe, tmp_path):
    class CountWords(Step):
        name, title = "words", "count words"

        def work(self, journey):
            words = sum(len(passage.text.split()) for passage in journey.held_out.training)
            return {"words": words, "note": f"{words} words"}

    for _ in range(2):
        screen = io.StringIO()
        with RunFolder.claim(tmp_path / "run", parse_recipe(recipe)) as folder:
            steps = [ReadCorpus(), CountWords()]
            results = Journey(parse_recipe(recipe), folder, Console(file=screen, width=150), steps).run()
    kept = json.loads((tmp_path / "run" / "stages" / "words.json").read_text())
    assert results["words"].items() <= kept.items()
    assert results["words"]["words"] > 45
    assert f"[2/2] count words: done before ({results['words']['words']} words)" in screen.getvalue()


def test_a_run_under_torchrun_is_sent_to_the_single_stages(recipe, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="the whole journey is for one process; with torchrun use `prefinetune`"):
        run(recipe)


def test_fret_that_was_stopped_is_not_trained_on(recipe, monkeypatch):
    from types import SimpleNamespace

    from gecko_core.errors import DataError

    monkeypatch.setattr("gecko_fret.build.pipeline.build_fret", lambda *_, **__: SimpleNamespace(complete=False))
    recipe["finetune"]["sets"] = [{"source": "fret"}]
    recipe["prefinetune"]["enabled"] = False
    with pytest.raises(DataError, match="FRet was stopped before its end; the same command goes on with it"):
        run(recipe)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("finetune", "teacher"), "no-such/teacher", "finetune.teacher: no-such/teacher: not a folder here"),
        (
            ("finetune", "sets"),
            [{"source": "pairs", "path": "gone.jsonl"}],
            "finetune.sets.0: gone.jsonl: no such",
        ),
        (
            ("finetune", "trainer", "evaluate"),
            {"sets": ["gone"]},
            "finetune.trainer.evaluate.sets.0: gone: no such",
        ),
        (("finetune", "trainer", "frozen_layers"), 99, "trainer.frozen_layers: 99 of the backbone's"),
        (("fret", "embedder"), {"model": "no-such/embedder"}, "fret.embedder: no-such/embedder"),
        (("fret", "llm"), {"model": "no-such/llm"}, "fret.llm: no-such/llm"),
        (("fret", "score"), {"judges": ["embedder"]}, "fret.score.judges: embedder needs"),
    ],
)
def test_what_a_later_step_needs_is_missed_before_the_first(recipe, tmp_path, monkeypatch, where, value, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    section = recipe = json.loads(json.dumps(recipe))  # stages share their trainer
    for key in where[:-1]:
        section = section.setdefault(key, {})
    section[where[-1]] = value
    if where[0] == "fret":
        recipe["finetune"]["sets"] = [{"source": "fret"}]
    if where[-1] == "teacher":
        recipe["finetune"]["objective"] = {"matching": {"weight": 1.0}}
    with pytest.raises(GeckoError) as caught:
        run(recipe)
    assert str(caught.value).startswith(message)
    assert not list((tmp_path / "run" / "stages").glob("*"))


def test_a_finished_run_is_shown_again_and_nothing_is_written(recipe, tmp_path):
    first, _ = run(recipe)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    second, screen = run(recipe)
    assert first == second
    assert "nothing is run again" in screen
    assert "Known-item search" in screen
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


@pytest.mark.long
def test_a_run_stopped_anywhere_goes_on_and_ends_the_same(recipe, tmp_path, monkeypatch):
    whole, _ = run(recipe)
    model = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")

    original, stops = RunFolder.stage, {"left": 0}

    def stopping(self, name, work):
        if self.finished(name) is None and name != "results":
            if stops["left"] == 0:
                stops["left"] = 1
                raise KeyboardInterrupt
            stops["left"] -= 1
        return original(self, name, work)

    monkeypatch.setattr(RunFolder, "stage", stopping)
    for _ in range(20):  # one more stage in each life
        try:
            results, screen = run(recipe)
        except KeyboardInterrupt:
            continue
        break
    assert "done before" in screen
    assert results["scores"] == whole["scores"]
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == model


def test_a_corpus_that_changed_under_a_run_is_refused(recipe, tmp_path, corpus_file):
    run(recipe)
    (tmp_path / "run" / "stages" / "results.json").unlink()
    (tmp_path / "run" / "stages" / "finetune.json").unlink()
    with corpus_file.open("a") as file:
        file.write(json.dumps({"id": "new", "title": "a new one arrives", "text": "bank " * 45}) + "\n")
    with pytest.raises(ConfigError, match="the corpus has changed since this run began"):
        run(recipe)


def test_the_tested_passages_are_in_nothing_that_trains(recipe, tmp_path, monkeypatch):
    from gecko_train.run import stage

    seen = []
    original = stage.load_set

    def watched(config, context):
        row_set = original(config, context)
        seen.append((config.source, [row.query for row in row_set], context.corpus.ids))
        return row_set

    monkeypatch.setattr(stage, "load_set", watched)
    own = {"source": "title-body", "path": recipe["corpus"]["path"], "name": "own"}
    recipe["finetune"]["sets"] += [{"source": "title-body", "name": "again"}, own]  # after pairs of all passages
    run(recipe)
    from gecko_fret.corpus import load_corpus

    corpus = load_corpus(recipe["corpus"]["path"])
    assert [source for source, _, _ in seen] == ["title-body", "pairs", "title-body", "title-body"]
    for _, queries, ids in seen:
        assert len(queries) == len(ids) == len(corpus) - 10 - 6  # the test, and the titles to choose by


def stage_recipe(backbone, folder, **sets):
    stage = {"sets": [sets], "trainer": {"batch_size": 4, "max_steps": 2, "precision": "fp32"}}
    student = {"model": str(backbone), "backbone": True, "dims": [32, 16], "max_seq_length": 64}
    return parse_recipe({"output": str(folder), "student": student, "finetune": stage})


def test_one_stage_leaves_a_model_and_is_not_run_twice(tiny_backbone, tmp_path):
    lines = [{"query": f"bank {n}", "positive": f"bart {n}", "negative": f"dort {n}"} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = stage_recipe(tiny_backbone, tmp_path / "run", source="triplets", path=str(tmp_path / "rows.jsonl"))
    run_stage(recipe, "finetune", Console(file=io.StringIO()))
    assert Gecko.from_pretrained(tmp_path / "run" / "model").dims == (32, 16)
    record = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())
    assert "finetune" in json.dumps(record)
    before = (tmp_path / "run" / "finetune" / "metrics.jsonl").stat().st_mtime_ns
    screen = io.StringIO()
    run_stage(recipe, "finetune", Console(file=screen, width=200))
    assert str(tmp_path / "run" / "model") in screen.getvalue()
    assert (tmp_path / "run" / "finetune" / "metrics.jsonl").stat().st_mtime_ns == before
    assert "[1/1] finetune: done before" in screen.getvalue()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 2


def one_stage(tiny_backbone, tmp_path, name="run", **change):
    lines = [{"query": f"bank {n}", "positive": f"bart {n}", "negative": f"dort {n}"} | change for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return stage_recipe(tiny_backbone, tmp_path / name, source="triplets", path=str(tmp_path / "rows.jsonl"))


def test_a_finished_stage_notices_what_has_changed_or_is_gone(tiny_backbone, tmp_path):
    recipe = one_stage(tiny_backbone, tmp_path)
    run_stage(recipe, "finetune", Console(file=io.StringIO()))
    weights = tmp_path / "run" / "model" / "model.safetensors"
    before = weights.read_bytes()
    one_stage(tiny_backbone, tmp_path, negative="another")
    with pytest.raises(ConfigError, match=r"run: finetune\.sets\.0 has changed since this run began .*rows\.jsonl"):
        run_stage(recipe, "finetune", Console(file=io.StringIO()))
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"run: finetune\.sets\.0 is gone since this run began .*rows\.jsonl"):
        run_stage(recipe, "finetune", Console(file=io.StringIO()))
    one_stage(tiny_backbone, tmp_path)
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    with pytest.raises(DataError, match=r"model\.safetensors: not what this run made; restore it, or remove it"):
        run_stage(recipe, "finetune", Console(file=io.StringIO()))
    shutil.rmtree(tmp_path / "run" / "model")
    screen = io.StringIO()
    run_stage(recipe, "finetune", Console(file=screen, width=150))
    assert "finetune: done before" not in screen.getvalue()
    assert weights.read_bytes() == before
    result = tmp_path / "run" / "stages" / "finetune.json"
    result.write_text(result.read_text().replace('"steps": 2', '"steps": 3'))
    with pytest.raises(DataError, match=r"finetune\.json: damaged .its checksum is another.; remove the file"):
        run_stage(recipe, "finetune", Console(file=io.StringIO()))


def test_a_stage_goes_on_only_with_the_rows_that_it_began_with(tiny_backbone, tmp_path, monkeypatch):
    recipe = one_stage(tiny_backbone, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Gecko, "save_pretrained", lambda *args, **options: 1 / 0)  # stopped after its last checkpoint
        with pytest.raises(ZeroDivisionError):
            run_stage(recipe, "finetune", Console(file=io.StringIO()))
    one_stage(tiny_backbone, tmp_path, negative="another")
    with pytest.raises(
        ConfigError, match="a checkpoint from before the texts, negatives or scores of its sets changed"
    ):
        run_stage(recipe, "finetune", Console(file=io.StringIO()))
    one_stage(tiny_backbone, tmp_path)
    run_stage(recipe, "finetune", Console(file=io.StringIO()))
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_run_whose_model_is_gone_makes_it_again(recipe, tmp_path):
    first, _ = run(recipe)
    weights = tmp_path / "run" / "model" / "model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(weights.parent)
    second, screen = run(recipe)
    assert "nothing is run again" not in screen
    assert weights.read_bytes() == before
    assert second["scores"] == first["scores"]
    assert "nothing is run again" in run(recipe)[1]


def test_fret_needs_its_folder(tiny_backbone, tmp_path):
    with pytest.raises(ConfigError, match="source 'fret' needs a path"):
        run_stage(stage_recipe(tiny_backbone, tmp_path / "run", source="fret"), "finetune")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_at_a_tiny_budget_with_the_real_models(tmp_path, monkeypatch):
    from gecko_fret import load_fret
    from gecko_train.cli import Options

    monkeypatch.chdir(tmp_path)
    recipe = Options(tiny=True).recipe("quickstart")
    results = run_recipe(recipe, Console(file=io.StringIO(), width=150))
    assert len(results["scores"]) == 6
    held_out = json.loads((tmp_path / "runs/quickstart/stages/corpus.json").read_text())
    assert held_out["queries"] == 30
    for row in load_fret(tmp_path / "runs/quickstart/fret"):
        assert row.query
        assert row.task
