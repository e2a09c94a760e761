"""Masked next-token prediction as a command, on a language model of a few thousand weights."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from gecko_core import Gecko
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import read_json
from gecko_core.text_identity import text_id
from gecko_train.config import Recipe, parse_recipe
from gecko_train.run import run_mntp, run_recipe
from gecko_train.run.steps.base import MNTP, PREFINETUNED, START
from gecko_train.run.steps.mntp import Mntp, MntpAlone


@pytest.fixture
def recipe(tmp_path):
    def make(model, **mntp):
        texts = tmp_path / "texts.jsonl"
        texts.write_text("".join(f'{{"text": "a b c d e f g h {n} i j k"}}\n' for n in range(40)))
        trainer = {"max_steps": 2, "batch_size": 2, "max_seq_length": 16, "lora": None}
        return parse_recipe(
            {
                "output": str(tmp_path / "out"),
                "corpus": {"path": str(texts)},
                "student": {"model": str(model), "backbone": True, "dims": [32]},
                "mntp": {"trainer": trainer, **mntp},
            }
        )

    return make


def test_a_language_model_is_trained_and_saved(recipe, language_model, tmp_path, capsys):
    run_mntp(recipe(language_model()))
    model = Gecko.from_pretrained(tmp_path / "out" / "model")
    assert model.backbone.config.is_causal is False
    record = read_json(tmp_path / "out" / "model" / "gecko.json")["record"]["stages"]["mntp"]
    assert record["length"] == 16
    assert record["steps"] == 2
    shown = capsys.readouterr().out
    assert "tokenising 40 texts" in shown
    assert "model:" in shown
    run_mntp(recipe(language_model()))  # finished: nothing is trained again
    assert "done before" in capsys.readouterr().out


def test_in_a_journey_the_next_stage_trains_what_it_made(recipe, language_model, tmp_path):
    passages = [
        {"title": f"a b c {chr(97 + n % 16)} {chr(97 + n // 16)}", "text": " ".join("abcdefghijklmnop"[n % 12 :] * 3)}
        for n in range(48)
    ]
    (tmp_path / "titled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages))
    trainer = {"max_steps": 2, "batch_size": 4, "max_seq_length": 16, "lora": None}
    values = recipe(language_model()).model_dump(mode="json") | {
        "corpus": {"path": str(tmp_path / "titled.jsonl")},
        "evaluation": {"queries": 5, "max_documents": 20},
        "mntp": {"enabled": True, "trainer": trainer},
        "prefinetune": {
            "sets": [{"source": "title-body"}],
            "objective": {"same_tower": False, "hard_negatives": 0},
            "trainer": trainer,
        },
        "finetune": {"enabled": False, "sets": [{"source": "title-body"}]},
    }
    results = run_recipe(parse_recipe(values), Console(file=io.StringIO()))
    assert list(dict.fromkeys(line["model"] for line in results["scores"])) == [
        "start",
        "bidirectional",
        "pre-finetuned",
    ]
    record = read_json(tmp_path / "out" / "model" / "gecko.json")["record"]["stages"]
    assert list(record) == ["corpus", "evaluate-start", "mntp", "evaluate-bidirectional", "prefinetune"]
    made, trained = (Gecko.from_pretrained(tmp_path / "out" / name).weights_hash() for name in ("mntp/model", "model"))
    start = Gecko.from_backbone(language_model(), dims=(32,)).weights_hash()
    assert len({start, made, trained}) == 3


def test_an_encoder_is_refused(recipe, tiny_backbone):
    with pytest.raises(ConfigError, match="bert is no language model"):
        run_mntp(recipe(tiny_backbone))


def test_what_it_cannot_train_is_told_by_the_plan(recipe, tiny_backbone, language_model):
    with pytest.raises(ConfigError, match="bert is no language model"):
        MntpAlone().check(recipe(tiny_backbone))
    folder = language_model()
    MntpAlone().check(recipe(folder))
    long = recipe(folder)
    long.mntp.trainer.max_seq_length = 100_000
    with pytest.raises(
        ConfigError, match=r"mntp\.trainer\.max_seq_length: 100000, and the model has positions for \d+"
    ):
        MntpAlone().check(long)
    with pytest.raises(ConfigError, match=r"mntp\.mask_token: "):
        parse_recipe({"mntp": {"mask_token": ""}})


def test_in_a_journey_pre_finetuning_begins_where_it_ended():
    assert PREFINETUNED.start(Recipe()) == START
    assert PREFINETUNED.start(parse_recipe({"mntp": {"enabled": True}})) == MNTP


def test_settings_that_mean_nothing_here_are_refused():
    with pytest.raises(ConfigError, match="evaluates nothing"):
        parse_recipe({"mntp": {"trainer": {"patience": 2}}})
    with pytest.raises(ConfigError, match="together they are at most 1"):
        parse_recipe({"mntp": {"random": 0.6, "kept": 0.6}})


def test_a_corpus_of_its_own_that_is_not_there_is_told_before_anything_is_loaded(tmp_path):
    recipe = parse_recipe({"mntp": {"enabled": True, "path": str(tmp_path / "nowhere.jsonl")}})
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file or folder"):
        Mntp().check(recipe)


def test_a_corpus_of_its_own_is_read_without_the_runs_test(recipe, tmp_path):
    own = recipe("x").corpus.path
    journey = SimpleNamespace(
        recipe=parse_recipe({"mntp": {"enabled": True, "path": own}}),
        held_out=SimpleNamespace(texts=frozenset([text_id("a b c d e f g h 3 i j k")]), training="the run's"),
    )
    read = [passage.text for passage in Mntp().corpus(journey)]
    assert len(read) == 39
    assert "a b c d e f g h 3 i j k" not in read
    journey.recipe = parse_recipe({"mntp": {"enabled": True}})
    assert Mntp().corpus(journey) == "the run's"
