import io
import json
import math
import shutil
import signal
import time

import pytest
import torch
import transformers
from rich.console import Console
from safetensors.torch import load_file

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import BlocksConfig, ObjectiveConfig, StageConfig, TrainerConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.streams import StreamedSet
from gecko_train.loop import checkpoint
from gecko_train.loop.trainer import Trainer
from gecko_train.loop.watch import read_metrics
from gecko_train.loss.objective import Objective


def trainer(model, sets, folder, *, seed=0, batch_size=8, hook=None, objective=None, teacher=None, **config):
    settings = {
        "batch_size": batch_size,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "micro_batch_tokens": 128,
        **config,
    }
    objective = Objective(ObjectiveConfig(**(objective or {})), dims=model.dims)
    mixture = Mixture(sets, batch_size=batch_size, seed=seed)
    return Trainer(
        model, mixture, [objective] * len(sets), TrainerConfig(**settings), folder, seed=seed,
        console=Console(file=io.StringIO()), on_checkpoint=hook, teacher=teacher,
    )  # fmt: skip


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_lowers_the_loss_and_leaves_checkpoints_and_curves(tiny_model, row_set, tmp_path):
    summary = trainer(tiny_model, [row_set("a", 24), row_set("b", 24, seed=5)], tmp_path, epochs=10).train()
    assert summary.steps == 60
    assert summary.last_loss < summary.first_loss
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {line["set"] for line in lines} == {"a", "b"}
    assert (tmp_path / "curves.png").exists()
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path / "checkpoints")] == [50, 60]


def test_gradient_caching_changes_nothing_but_memory(tiny_backbone, tiny_model, row_set, tmp_path):
    from gecko_core import Gecko

    other = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
    trainer(tiny_model, [row_set("a", 32)], tmp_path / "a", max_steps=3, grad_cache=True).train()
    trainer(other, [row_set("a", 32)], tmp_path / "b", max_steps=3, grad_cache=False).train()
    torch.testing.assert_close(weights(tiny_model), weights(other), rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits(tiny_backbone, row_set, tmp_path):
    from gecko_core import Gecko

    trained = []
    for name in "ab":
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        torch.manual_seed(ord(name))  # what happened before must not matter
        trainer(model, [row_set("a", 32)], tmp_path / name, max_steps=4).train()
        trained.append(weights(model))
    assert torch.equal(*trained)


@pytest.mark.long
@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_run_killed_in_the_middle_ends_with_the_same_bits(tiny_backbone, tmp_path, start_training, in_blocks):
    def start(folder):
        settings = {
            "steps": 120, "checkpoint_every": 10, "batch_size": 8, "dropout": True, "in_blocks": in_blocks,
        }  # fmt: skip
        return start_training({}, backbone=str(tiny_backbone), folder=str(folder), **settings)

    whole = start(tmp_path / "whole")
    killed = start(tmp_path / "killed")
    while killed.is_alive() and len(read_metrics(tmp_path / "killed" / "metrics.jsonl")) < 25:
        time.sleep(0.05)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert 20 <= checkpoint.latest(tmp_path / "killed" / "checkpoints").step < 120
    again = start(tmp_path / "killed")
    for process in (again, whole):
        process.join()
        assert process.exitcode == 0
    last = "checkpoints/step-000120"
    beside = ["beside.safetensors"] if in_blocks else []
    for name in ("model.safetensors", "optimizer.safetensors", *beside):
        assert (tmp_path / "killed" / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()
    steps = [[line["loss"] for line in read_metrics(tmp_path / run / "metrics.jsonl")] for run in ("killed", "whole")]
    assert steps[0] == steps[1]


def test_a_checkpoint_of_other_settings_is_not_continued(tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2).train()
    with pytest.raises(ConfigError, match=r"step-000002: a checkpoint with another data plan; choose another output"):
        trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=4, seed=1).train()
    for changed, message in (("model", "of another model"), ("stage", "with other settings")):
        run = trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=4)
        run.identity[changed] = "other"
        with pytest.raises(ConfigError, match=f"step-000002: a checkpoint {message}"):
            run.train()


def test_a_checkpoint_of_an_earlier_version_goes_on_under_the_new_names(tiny_model, row_set, tmp_path):
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


def test_a_loss_that_is_not_finite_stops_with_its_rows_saved(tiny_model, row_set, tmp_path):
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(math.nan)
    with pytest.raises(
        DataError, match=r"step 1: the loss .nan.* is not finite; its rows are in .*json; lower learning_rate"
    ):
        trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2).train()
    saved = json.loads((tmp_path / "not-finite-step-1-rank-0.json").read_text())
    assert len(saved) == 8
    assert saved[0]["query"]
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_the_best_checkpoint_is_kept_beside_the_last(tiny_model, row_set, tmp_path):
    scores = {2: 0.1, 4: 0.9, 6: 0.2, 8: 0.3, 10: 0.4}
    run = trainer(
        tiny_model, [row_set("a", 32)], tmp_path, max_steps=10, checkpoint_every=2, keep_checkpoints=2,
        hook=lambda step, model: scores[step],
    )  # fmt: skip
    run.train()
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path / "checkpoints")] == [4, 8, 10]


def test_bf16_autocast_leaves_the_weights_in_fp32(tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, precision="bf16").train()
    assert {parameter.dtype for parameter in tiny_model.parameters()} == {torch.float32}
    assert tiny_model.encode_queries(["bank"]).shape == (1, 32)


def test_a_tracker_gets_the_numbers_and_one_that_is_missing_is_named(tiny_model, row_set, tmp_path, monkeypatch):
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


def test_the_stage_can_end_with_the_best_checkpoint(tiny_model, row_set, tmp_path):
    seen = {}

    def hook(step, model):
        seen[step] = weights(model)
        return {"eval/mean@32": {2: 0.1, 4: 0.9, 6: 0.2}[step], "eval/other": 1.0}

    run = trainer(
        tiny_model, [row_set("a", 32)], tmp_path, max_steps=6, checkpoint_every=2, keep_checkpoints=1, hook=hook,
        end_with="best",
    )  # fmt: skip
    assert run.train().best_step == 4
    assert torch.equal(weights(tiny_model), seen[4])
    assert [line.get("eval/mean@32") for line in read_metrics(tmp_path / "metrics.jsonl")][1::2] == [0.1, 0.9, 0.2]


def test_every_step_records_tokens_per_second_and_mfu(tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, peak_tflops=1e-3).train()
    for line in read_metrics(tmp_path / "metrics.jsonl"):
        assert 0 < line["mfu"] < 100
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"])


def test_a_batch_that_fits_is_computed_once_and_another_gives_the_same(
    tiny_backbone, row_set, tmp_path, without_dropout
):
    from gecko_core import Gecko

    trained, passes = [], []
    for budget in (64, 100_000):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        without_dropout(model)
        calls = []
        model.backbone.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        run = trainer(model, [row_set("a", 32)], tmp_path / str(budget), max_steps=1, micro_batch_tokens=budget)
        run._quick = 64
        run.train()
        trained.append(weights(model))
        passes.append(len(calls))
    assert passes[0] == 2 * passes[1] > 4
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-6)


def test_gradient_checkpointing_changes_nothing_but_memory(tiny_backbone, row_set, tmp_path):
    from gecko_core import Gecko

    trained = []
    for enabled in (False, True):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        model.padding_free = False  # checkpointing is padded, and dropout drops other units there
        trainer(model, [row_set("a", 32)], tmp_path / str(enabled), max_steps=2, gradient_checkpointing=enabled).train()
        trained.append(weights(model))
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-6)


def test_training_without_padding_learns_the_same(tiny_backbone, row_set, tmp_path, without_dropout):
    from gecko_core import Gecko

    trained, packs = [], []
    for padding_free in (False, True, "auto"):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        without_dropout(model)
        start = weights(model)
        run = trainer(model, [row_set("a", 32)], tmp_path / str(padding_free), max_steps=1, padding_free=padding_free)
        run.train()
        trained.append(weights(model))
        packs.append(model.runs_packed)
    packed = int(transformers.__version__.split(".")[0]) >= 5  # before, attention is called in another way
    assert packs == [False, packed, packed]
    assert (trained[0] - trained[1]).norm() < 1e-3 * (trained[0] - start).norm()
    assert torch.equal(trained[1], trained[2])


def test_a_teachers_embeddings_are_matched(tiny_backbone, tiny_model, row_set, tmp_path):
    from gecko_core import Gecko

    torch.manual_seed(3)
    teacher = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32)
    trainer(
        tiny_model,
        [row_set("a", 32)],
        tmp_path,
        max_steps=12,
        teacher=teacher,
        objective={"matching": {"weight": 30.0}},
    ).train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["matching"] < lines[0]["matching"]


def test_the_teacher_is_asked_once_in_its_own_prompts(tiny_backbone, tiny_model, row_set, tmp_path, monkeypatch):
    from gecko_core import Gecko

    teacher = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=5)
    teacher.prompt_style, teacher.prompts = "plain", {"query": "the query : "}
    asked, encode = [], teacher.encode
    monkeypatch.setattr(teacher, "encode", lambda texts, **options: asked.extend(texts) or encode(texts, **options))
    sets = [row_set("a", 24), row_set("b", 24, seed=5)]
    objective = {"matching": {"weight": 1.0}}
    trainer(tiny_model, sets, tmp_path, epochs=3, teacher=teacher, objective=objective).train()
    assert len(asked) == len(set(asked)) == 24 * 2 * 3
    assert sum(text.startswith("the query : ") for text in asked) == 48
    assert not any(text.startswith(("task:", "title:")) for text in asked)


def test_a_projection_is_trained_along_and_no_part_of_the_model(tiny_backbone, tiny_model, row_set, tmp_path):
    from gecko_core import Gecko

    teacher = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=5)
    before = {name: tensor.shape for name, tensor in tiny_model.state_dict().items()}
    objective = {"contrastive_weight": 0.0, "matching": {"weight": 1.0, "projection": True}}
    run = trainer(tiny_model, [row_set("a", 32)], tmp_path, epochs=10, teacher=teacher, objective=objective)
    summary = run.train()
    assert summary.last_loss < 0.8 * summary.first_loss
    assert {name: tensor.shape for name, tensor in tiny_model.state_dict().items()} == before
    saved = load_file(checkpoint.latest(tmp_path / "checkpoints").path / "beside.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in saved.items()} == {"weight": (24, 32)}
    assert torch.equal(saved["weight"], run.projection.weight)


def test_single_texts_are_matched(tiny_backbone, tiny_model, tmp_path):
    from gecko_core import Gecko

    teacher = Gecko.from_backbone(tiny_backbone, dims=(32,), device="cpu", dtype=torch.float32, seed=5)
    rows = [TrainingRow("t", f"bank {n} dort", None) for n in range(12)]
    rows += [TrainingRow("t", None, None, (Document(f"lims {n} sonk"),)) for n in range(12)]
    objective = {"contrastive_weight": 0.0, "matching": {"weight": 1.0}}
    run = trainer(
        tiny_model, [RowSet.from_rows("texts", rows)], tmp_path, epochs=10, teacher=teacher, objective=objective
    )
    summary = run.train()
    assert summary.last_loss < summary.first_loss
    assert summary.rows == 240


def test_blocks_are_learned_from(tiny_model, neighbours, tmp_path):
    blocks = BlockSet("blocks", neighbours(60), BlocksConfig(documents=16, queries=12, shared=2), hard_negatives=1)
    objective = {"contrastive_weight": 0.0, "block": {"weight": 1.0}, "kl": {"weight": 0.1, "documents": 4}}
    summary = trainer(tiny_model, [blocks], tmp_path, epochs=8, objective=objective).train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["block"] < lines[0]["block"]
    assert all(line["rows"] <= 12 and line["judged"] > 2 for line in lines)
    assert summary.steps == 8 * blocks.batches


def test_gradient_caching_of_a_block_changes_nothing_but_memory(tiny_backbone, neighbours, tmp_path):
    from gecko_core import Gecko

    trained = []
    for cache in (True, False):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        blocks = BlockSet("blocks", neighbours(60), BlocksConfig(documents=16, queries=12), hard_negatives=1)
        objective = {"block": {"weight": 1.0}}
        trainer(model, [blocks], tmp_path / str(cache), max_steps=3, grad_cache=cache, objective=objective).train()
        trained.append(weights(model))
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_compiled_backbone_trains_to_the_same_weights(tiny_backbone, row_set, tmp_path, without_dropout):
    from gecko_core import Gecko

    trained = []
    for compiled in (False, True):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        without_dropout(model)
        trainer(model, [row_set("a", 32)], tmp_path / str(compiled), max_steps=3, compile=compiled).train()
        trained.append(weights(model))
    torch.testing.assert_close(*trained, rtol=1e-3, atol=1e-5)


def test_training_stops_when_patience_is_over_and_a_resumed_run_stops_there_too(tiny_model, row_set, tmp_path):
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


def test_a_start_that_is_never_beaten_counts_for_patience_and_killed_runs_remember_it(tiny_model, row_set, tmp_path):
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


def test_without_patience_the_start_is_not_asked_and_checkpoints_are_as_before(tiny_model, row_set, tmp_path):
    asked = []
    trainer(
        tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, hook=lambda step, model: asked.append(step) or 0.5
    ).train()
    assert asked == [2]
    assert "scores" not in checkpoint.latest(tmp_path / "checkpoints").state


@pytest.mark.parametrize("checkpoint_every", [0, 1])
def test_weights_that_the_last_step_breaks_are_not_saved(tiny_model, row_set, tmp_path, monkeypatch, checkpoint_every):
    made = trainer(tiny_model, [row_set("a", 16)], tmp_path, max_steps=1, checkpoint_every=checkpoint_every)
    step = torch.optim.AdamW.step

    def breaks(self, *arguments, **options):
        step(self, *arguments, **options)
        self.param_groups[0]["params"][0].data.view(-1)[0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    with pytest.raises(DataError, match=r"step 1: 1 of the weights' tensors are not finite \(.*lower learning_rate"):
        made.train()
    assert not checkpoint.checkpoints(tmp_path / "checkpoints")


def test_steps_that_have_nothing_to_compare_stop_before_anything_is_saved(tiny_model, tmp_path):
    same = [TrainingRow("t", "bank", Document("lims"))] * 8
    with pytest.raises(DataError, match="set same: the contrastive loss has nothing to compare a positive with"):
        trainer(tiny_model, [RowSet.from_rows("same", same)], tmp_path / "known", max_steps=2)
    before = weights(tiny_model)
    for steps, stops in ((2, 2), (30, 10)):
        streamed = StreamedSet("stream", lambda: iter(same), rows=8)
        made = trainer(
            tiny_model, [streamed], tmp_path / str(steps), max_steps=steps, checkpoint_every=1, weight_decay=0.0
        )
        with pytest.raises(DataError, match=f"step {stops}: no step so far had a gradient .set stream, loss 0.000"):
            made.train()
        assert checkpoint.latest(tmp_path / str(steps) / "checkpoints") is None
    assert torch.equal(weights(tiny_model), before)


def test_a_set_that_cannot_fill_a_batch_is_named(tiny_model, tmp_path):
    other = (Document("something else"),)
    rows = [TrainingRow("t", "the same query", Document(f"answer {n}"), other) for n in range(20)]
    made = trainer(tiny_model, [RowSet.from_rows("same", rows)], tmp_path, max_steps=1)
    made.train()
    shown = made.console.file.getvalue()
    assert "note: set same: a batch has at most 1 of its 20 rows, not 8: no two rows" in shown
    assert "a batch of one row has no other rows' passages as negatives" in shown
