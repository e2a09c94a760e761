"""The end of a journey: which model is saved, and that nothing it is chosen by was trained on."""

import io
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from gecko_core import Gecko
from gecko_core.text_identity import text_id
from gecko_fret import Candidate, FretData, load_corpus
from gecko_fret.steps import MinedRow
from gecko_train.config import parse_recipe
from gecko_train.run.folder import RunFolder
from gecko_train.run.journey import run_recipe, run_stage
from gecko_train.run.stage import load_student
from gecko_train.run.steps.interpolate import Interpolate

WORDS = [
    first + last for first in ("ba", "do", "ke", "li", "mu", "pra", "so", "ti") for last in ("nk", "rt", "ll", "ms")
]


def passages(count=120):
    """Titles of four words, texts that speak of these four and little else."""
    generator, found, seen = random.Random(0), [], set()
    while len(found) < count:
        topic = tuple(generator.sample(WORDS, 4))
        if frozenset(topic) in seen:
            continue
        seen.add(frozenset(topic))
        text = [generator.choice(topic) for _ in range(20)] + [generator.choice(WORDS) for _ in range(8)]
        found.append({"id": f"p{len(found)}", "title": " ".join(topic), "text": " ".join(text)})
    return found


@pytest.fixture
def make(tiny_backbone, tmp_path):
    """A recipe that fine-tunes on pairs: make(shift=..., **finetune); 0 pairs titles with their own texts."""
    texts = passages()
    corpus = tmp_path / "topics.jsonl"
    corpus.write_text("".join(json.dumps(passage) + "\n" for passage in texts))

    def make(shift=0, trainer=None, **finetune):
        pairs = tmp_path / f"pairs-{shift}.jsonl"
        rows = [
            {"query": own["title"], "positive": other["text"]}
            for own, other in zip(texts, texts[shift:] + texts[:shift], strict=True)
        ]
        pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "output": str(tmp_path / "run"),
            "corpus": {"path": str(corpus)},
            "student": {"model": str(tiny_backbone), "backbone": True, "dims": [32, 16], "max_seq_length": 64},
            "evaluation": {"queries": 20, "max_documents": 60},
            "prefinetune": {"enabled": False, "sets": [{"source": "title-body"}]},
            "finetune": {
                "sets": [{"source": "pairs", "path": str(pairs)}],
                "trainer": {"batch_size": 16, "max_steps": 12, "learning_rate": 1e-3, "precision": "fp32"}
                | (trainer or {}),
                "known_items": {"titles": 30, "words": 0, "share": 0.3, "documents": 60},
                **finetune,
            },
        }

    return make


def run(recipe):
    screen = io.StringIO()
    results = run_recipe(parse_recipe(recipe), Console(file=screen, width=150))
    return results, screen.getvalue()


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


HURTS = {"shift": 7, "trainer": {"learning_rate": 0.05, "max_steps": 12}}


def test_where_training_hurts_the_start_model_is_saved_bit_for_bit_and_the_screen_says_so(make, tmp_path):
    recipe = make(**HURTS)
    results, screen = run(recipe)
    load_student(parse_recipe(recipe).student, "cpu").save_pretrained(tmp_path / "start")
    assert weights(tmp_path / "run" / "model") == weights(tmp_path / "start")
    assert weights(tmp_path / "run" / "finetune" / "model") != weights(tmp_path / "start")
    chosen = results["interpolation"]
    assert (chosen["saved"], chosen["share"], chosen["items"]) == ("start", 0.0, {"titles": 30})
    assert [row["share"] for row in chosen["measured"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    difference, error = chosen["measured"][-1]["against"]["start"]["score"]
    assert difference < -2 * error < 0
    assert "Saved: the start model, unchanged: no model on the way is better" in screen
    start, end = (line for line in results["scores"] if line["dim"] == 32)
    assert start["ndcg_at_10"] == end["ndcg_at_10"]
    record = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())["record"]
    assert record["stages"]["interpolate"]["measured"] == chosen["measured"]
    assert record["stages"]["finetune"]["sources"]


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_where_training_helps_a_share_of_it_is_saved(make, tmp_path, method):
    results, screen = run(make(interpolation=method))
    chosen = results["interpolation"]
    assert chosen["saved"] == "fine-tuned"
    assert chosen["share"] > 0
    leads = {row["share"]: row["against"]["start"]["score"] for row in chosen["measured"]}
    lower = {share: difference - 1.96 * error for share, (difference, error) in leads.items()}
    assert lower[chosen["share"]] == max(lower.values()) > 0
    assert "on the known items (30 titles)" in screen
    assert chosen["method"] == method
    assert "interpolate with the start model" in screen


def test_a_share_of_the_recipes_is_taken_without_items_set_apart(make, tmp_path):
    recipe = make(interpolate=0.25)
    results, screen = run(recipe)
    start = load_student(parse_recipe(recipe).student, "cpu").backbone.state_dict()
    end = load_file(tmp_path / "run" / "finetune" / "model" / "model.safetensors")
    for name, tensor in load_file(tmp_path / "run" / "model" / "model.safetensors").items():
        torch.testing.assert_close(tensor, start[name] * 0.75 + end[name] * 0.25)
    assert "measured" not in results["interpolation"]
    assert "Saved: 0.25 of the way from the start model to the end of training (linear)" in screen
    assert "to choose by" not in screen


@pytest.mark.parametrize("share", [0, 1])
def test_the_ends_are_saved_bit_for_bit(make, tmp_path, share):
    recipe = make(interpolate=share, interpolation="slerp")
    run(recipe)
    load_student(parse_recipe(recipe).student, "cpu").save_pretrained(tmp_path / "start")
    end = tmp_path / "run" / "finetune" / "model" if share else tmp_path / "start"
    assert weights(tmp_path / "run" / "model") == weights(end)


def test_the_projection_is_interpolated_too(make, tmp_path):
    recipe = make(interpolate=0.5)
    recipe["student"]["dims"] = [24, 8]
    run(recipe)
    start = load_student(parse_recipe(recipe).student, "cpu").head[0].linear.weight.detach()
    end, between = (
        Gecko.from_pretrained(tmp_path / "run" / name, device="cpu").head[0].linear.weight.detach()
        for name in ("finetune/model", "model")
    )
    assert not torch.equal(start, end)
    torch.testing.assert_close(between, (start + end) / 2)


def test_without_the_key_a_run_is_as_it_was(make, tmp_path):
    """A run that an earlier version began, and stopped before fine-tuning."""
    plain, screen = run(make(interpolate=None))
    model = weights(tmp_path / "run" / "model")
    assert "interpolation" not in plain
    assert not (tmp_path / "run" / "finetune" / "model").exists()
    assert "interpolate" not in screen
    import yaml

    folder = tmp_path / "run"
    for name in ("finetune", "model"):
        shutil.rmtree(folder / name)
    for name in ("finetune", "evaluate-finetuned", "results"):
        (folder / "stages" / f"{name}.json").unlink()
    values = yaml.safe_load((folder / "recipe.yaml").read_text())
    for key in ("interpolate", "interpolation", "known_items"):
        del values["finetune"][key]
    del values["finetune"]["trainer"]["patience"]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    results, screen = run(make())
    assert "done before" in screen
    assert weights(folder / "model") == model
    assert results["scores"] == plain["scores"]
    assert sorted(path.name for path in (folder / "stages").iterdir()) == [
        "corpus.json", "evaluate-finetuned.json", "evaluate-start.json", "finetune.json", "results.json",
    ]  # fmt: skip


@pytest.mark.long
def test_a_run_killed_at_the_end_of_any_step_or_within_the_choice_saves_the_same_bytes(make, tmp_path, monkeypatch):
    recipe = make(trainer={"learning_rate": 3e-3})
    recipe["prefinetune"] |= {"enabled": True, "trainer": recipe["finetune"]["trainer"] | {"max_steps": 2}}
    whole, _ = run(recipe)
    model = weights(tmp_path / "run" / "model")
    rows = [(row["model"], row["share"]) for row in whole["interpolation"]["measured"]]
    assert rows[:2] == [("start", 0.0), ("pre-finetuned", 0.0)]
    shutil.rmtree(tmp_path / "run")
    original, work, stops = RunFolder.stage, Interpolate.work, {"left": 0, "within": True}

    def stopping(self, name, step):
        if self.finished(name) is None:
            if stops["left"] == 0:
                stops["left"] = 1
                raise KeyboardInterrupt
            stops["left"] -= 1
        return original(self, name, step)

    def stopping_within(self, journey):
        done = work(self, journey)
        if stops.pop("within", False):  # the model is saved, the step's result is not
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(RunFolder, "stage", stopping)
    monkeypatch.setattr(Interpolate, "work", stopping_within)
    for _ in range(30):
        try:
            results, _ = run(recipe)
        except KeyboardInterrupt:
            continue
        break
    assert "within" not in stops
    assert results["interpolation"]["measured"] == whole["interpolation"]["measured"]
    assert results["scores"] == whole["scores"]
    assert weights(tmp_path / "run" / "model") == model
    started = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())["base_model"]
    assert started == Path(recipe["student"]["model"]).name


@pytest.fixture
def fret(make, tmp_path, monkeypatch):
    """A FRet folder of 100 rows over the topics."""
    make()
    corpus = load_corpus(tmp_path / "topics.jsonl")
    generator, rows = random.Random(1), []
    for n in range(100):
        passage = corpus[n]
        ids = [passage.id, *generator.sample([name for name in corpus.ids if name != passage.id], 4)]
        words = passage.title.split()
        candidates = [
            Candidate(name, 0.5, None, None, None, None, value, {}, value)
            for name, value in zip(ids, (0.6, 0.2, 0.1, 0.06, 0.04), strict=True)
        ]
        query = f"{words[n % 4]} {words[(n + 1) % 4]} {n}"
        rows.append(MinedRow(f"r{n}", "search result", query, ids[0], [ids[-1]], ids[0], 1, candidates))
    data = FretData(rows, corpus, {})
    monkeypatch.setattr("gecko_train.data.known_items.load_fret", lambda path: data)
    monkeypatch.setattr("gecko_train.data.sources.fret.load_fret", lambda path: data)
    (tmp_path / "fret").mkdir()
    return {"source": "fret", "path": str(tmp_path / "fret")}


def test_all_three_kinds_decide_and_none_of_their_items_is_trained_on(make, fret, tmp_path, monkeypatch):
    from gecko_train.loop.trainer import Trainer

    trained, original = [], Trainer._fetch

    def watched(self, step):
        prepared = original(self, step)
        trained.extend(row.query for row in prepared.rows)
        return prepared

    monkeypatch.setattr(Trainer, "_fetch", watched)
    results, screen = run(make(sets=[fret], trainer={"max_steps": 30}))
    chosen = results["interpolation"]
    assert chosen["items"] == {"titles": 30, "queries": 30, "lists": 30}
    for row in chosen["measured"]:
        assert row["score"] == pytest.approx((row["titles"] + row["queries"] + row["lists"]) / 3, abs=2e-6)
        assert set(row["against"]["start"]) == {"titles", "queries", "lists", "score"}
    assert "; lists" in screen.split("Known-item search over")[1]
    assert len(set(trained)) == 42  # of 100; some are of the test, or of the titles
    from gecko_train.data.known_items import known_items

    config = parse_recipe(make(sets=[fret], trainer={"max_steps": 30})).finetune
    apart = known_items(config, None, None, seed=0).queries
    assert len(apart) == 30
    assert not apart & {text_id(query) for query in trained}
    assert json.loads((tmp_path / "run" / "stages" / "finetune.json").read_text())["sets"] == {"fret": 42}


def test_words_drawn_from_passages_decide_too(make, tmp_path):
    recipe = make()
    recipe["finetune"]["known_items"] |= {"words": 40}
    results, screen = run(recipe)
    chosen = results["interpolation"]
    assert chosen["items"] == {"titles": 30, "words": 40}
    for row in chosen["measured"]:
        assert row["score"] == pytest.approx((row["titles"] + row["words"]) / 2, abs=2e-6)
    assert "; words " in screen
    alone = make(known_items={"titles": 0, "words": 40, "documents": 60}) | {"output": str(tmp_path / "alone")}
    results, screen = run(alone)
    assert results["interpolation"]["items"] == {"words": 40}


def test_fine_tuning_alone_chooses_by_fret_and_without_it_does_not_choose(make, fret, tmp_path):
    recipe = make(sets=[fret])
    screen = io.StringIO()
    run_stage(parse_recipe(recipe), "finetune", Console(file=screen, width=150))
    assert "[2/2] interpolate with the start model" in screen.getvalue()
    record = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())["record"]["stages"]["interpolate"]
    assert record["items"] == {"queries": 30, "lists": 30}
    without = make() | {"output": str(tmp_path / "plain")}
    screen = io.StringIO()
    run_stage(parse_recipe(without), "finetune", Console(file=screen, width=150))
    assert "[1/1] finetune" in screen.getvalue()
    assert not (tmp_path / "plain" / "finetune" / "model").exists()


def test_training_that_only_hurts_stops_early(make, tmp_path):
    recipe = make(**HURTS)
    recipe["finetune"]["trainer"] |= {"max_steps": 40, "patience": 2, "checkpoint_every": 4}
    results, screen = run(recipe)
    assert "8 steps on 44 rows (stopped early: no better for a while)" in " ".join(screen.split())
    lines = [json.loads(line) for line in (tmp_path / "run" / "finetune" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "score" in line] == [4, 8]
    assert lines[3]["eval/titles"] == lines[3]["score"]
    assert results["interpolation"]["saved"] == "start"
