import pytest

from gecko_train.loop import checkpoint


def test_training_stops_when_patience_is_over_and_a_resumed_run_stops_there_too(trainer, tiny_model, row_set, tmp_path):
    scores = {0: 0.5, 2: 0.4, 4: 0.6, 6: 0.6, 8: 0.2, 10: 0.9}
    asked = []

    def judge(step, model):
        asked.append(step)
        return scores[step]

    def run(folder, **more):
        return trainer(
            tiny_model, [row_set("a", 32)], folder, max_steps=10, checkpoint_every=2, keep_checkpoints=1, hook=judge,
            **more,
        )  # fmt: skip

    summary = run(tmp_path / "a", patience=2).train()
    assert asked == [0, 2, 4, 6, 8]  # an equal one is no better
    assert (summary.steps, summary.stopped_early, summary.best_step) == (8, True, 4)
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path / "a" / "checkpoints")] == [4, 8]
    again = run(tmp_path / "a", patience=2).train()  # killed after its last checkpoint
    assert asked == [0, 2, 4, 6, 8]
    assert (again.steps, again.stopped_early) == (8, True)
    asked.clear()
    summary = run(tmp_path / "b", patience=3).train()
    assert asked == [0, 2, 4, 6, 8, 10]
    assert (summary.steps, summary.stopped_early) == (10, False)


def test_a_start_that_is_never_beaten_counts_for_patience_and_killed_runs_remember_it(
    trainer, tiny_model, row_set, tmp_path
):
    asked = []

    def judge(step, model):
        if step == 4 and 4 not in asked:
            asked.append(step)
            raise KeyboardInterrupt
        asked.append(step)
        return 1.0 - step / 10

    def run():
        return trainer(
            tiny_model, [row_set("a", 32)], tmp_path, max_steps=10, checkpoint_every=2, hook=judge, patience=2
        ).train()

    with pytest.raises(KeyboardInterrupt):
        run()
    summary = run()
    assert asked == [0, 2, 4, 4]
    assert (summary.steps, summary.stopped_early) == (4, True)


def test_without_patience_the_start_is_not_asked_and_checkpoints_are_as_before(trainer, tiny_model, row_set, tmp_path):
    asked = []
    trainer(
        tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, hook=lambda step, model: asked.append(step) or 0.5
    ).train()
    assert asked == [2]
    assert "scores" not in checkpoint.latest(tmp_path / "checkpoints").state
