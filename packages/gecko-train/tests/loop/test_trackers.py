import pytest

from gecko_core.errors import ConfigError


def test_a_tracker_gets_the_numbers_and_one_that_is_missing_is_named(
    trainer, tiny_model, row_set, tmp_path, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"wandb is not installed; pip install 'gecko-train\[wandb\]'"):
        trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, trackers=["wandb"])
    monkeypatch.undo()
    run = trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2)
    logged = []
    run.config = run.config.model_copy(update={"trackers": ["tensorboard"]})
    monkeypatch.setattr(run.accelerator, "init_trackers", lambda *_, **__: None)
    monkeypatch.setattr(run.accelerator, "log", lambda values, step: logged.append((step, values)))
    run.train()
    assert [step for step, _ in logged] == [1, 2]
    assert logged[0][1]["training/loss"] > 0
