import json
import shutil

import pytest

from gecko_core.errors import ConfigError
from gecko_train.config import StageConfig
from gecko_train.loop.watch import read_metrics


def test_a_checkpoint_of_other_settings_is_not_continued(trainer, tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2).train()
    with pytest.raises(ConfigError, match=r"step-000002: a checkpoint with another data plan; choose another output"):
        trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=4, seed=1).train()
    for changed, message in (("model", "of another model"), ("stage", "with other settings")):
        run = trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=4)
        run.identity[changed] = "other"
        with pytest.raises(ConfigError, match=f"step-000002: a checkpoint {message}"):
            run.train()


def test_a_checkpoint_of_an_earlier_version_goes_on_under_the_new_names(trainer, tiny_model, row_set, tmp_path):
    stage = StageConfig.model_validate({"sets": [{"source": "fret", "objective": {"kl": {"weight": 0.5}}}]})
    earlier = stage.model_dump(mode="json")
    earlier["sets"][0] |= {"objective": None, "kl_weight": 0.5, "spread_out": None}
    first = trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, checkpoint_every=1)
    first.identity["stage"] = json.dumps(earlier)
    first.train()
    shutil.rmtree(tmp_path / "checkpoints" / "step-000002")
    again = trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, checkpoint_every=1)
    again.identity["stage"] = stage.model_dump_json()
    assert again.train().steps == 2
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
