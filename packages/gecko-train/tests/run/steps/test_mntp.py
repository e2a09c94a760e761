"""Masked next-token prediction as a command, on a language model of a few thousand weights."""

import pytest

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_core.io import read_json
from gecko_train.config import Recipe, parse_recipe
from gecko_train.run import run_mntp
from gecko_train.run.steps.base import MNTP, PREFINETUNED, START


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
    assert "model:" in capsys.readouterr().out
    run_mntp(recipe(language_model()))  # finished: nothing is trained again
    assert "done before" in capsys.readouterr().out


def test_an_encoder_is_refused(recipe, tiny_backbone):
    with pytest.raises(ConfigError, match="bert is no language model"):
        run_mntp(recipe(tiny_backbone))


def test_in_a_journey_pre_finetuning_begins_where_it_ended():
    assert PREFINETUNED.start(Recipe()) == START
    assert PREFINETUNED.start(parse_recipe({"mntp": {"enabled": True}})) == MNTP


def test_settings_that_mean_nothing_here_are_refused():
    with pytest.raises(ConfigError, match="evaluates nothing"):
        parse_recipe({"mntp": {"trainer": {"patience": 2}}})
    with pytest.raises(ConfigError, match="together they are at most 1"):
        parse_recipe({"mntp": {"random": 0.6, "kept": 0.6}})
