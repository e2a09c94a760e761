import signal
import time
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import BlocksConfig, TrainerConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.mixture import Mixture
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.streams import StreamedSet
from gecko_train.loop import checkpoint
from gecko_train.loop.trainer import Trainer
from gecko_train.loop.watch import read_metrics
from gecko_train.loss.objective import Objective, ObjectiveConfig


def test_training_lowers_the_loss_and_leaves_checkpoints_and_curves(trainer, tiny_model, row_set, tmp_path):
    summary = trainer(tiny_model, [row_set("a", 24), row_set("b", 24, seed=5)], tmp_path, epochs=10).train()
    assert summary.steps == 60
    assert summary.last_loss < summary.first_loss
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {line["set"] for line in lines} == {"a", "b"}
    assert (tmp_path / "curves.png").exists()
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path / "checkpoints")] == [50, 60]


def test_gradient_caching_changes_nothing_but_memory(trainer, weights, tiny_backbone, tiny_model, row_set, tmp_path):
    from gecko_core import Gecko

    other = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
    trainer(tiny_model, [row_set("a", 32)], tmp_path / "a", max_steps=3, grad_cache=True).train()
    trainer(other, [row_set("a", 32)], tmp_path / "b", max_steps=3, grad_cache=False).train()
    torch.testing.assert_close(weights(tiny_model), weights(other), rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits(trainer, weights, tiny_backbone, row_set, tmp_path):
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


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ({2: 0.1, 4: 0.9, 6: 0.2, 8: 0.3, 10: 0.4}, [4, 8, 10]),
        ({2: 0.9, 4: 0.5, 6: None, 8: 0.4}, [2, 6, 8]),  # nothing was evaluated: the best one lost its place
    ],
)
def test_the_best_checkpoint_is_kept_beside_the_last(trainer, tiny_model, row_set, tmp_path, scores, kept):
    run = trainer(
        tiny_model, [row_set("a", 32)], tmp_path, max_steps=max(scores), checkpoint_every=2, keep_checkpoints=2,
        hook=lambda step, model: scores[step],
    )  # fmt: skip
    run.train()
    assert [left.step for left in checkpoint.checkpoints(tmp_path / "checkpoints")] == kept


def test_bf16_autocast_leaves_the_weights_in_fp32(trainer, tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, precision="bf16").train()
    assert {parameter.dtype for parameter in tiny_model.parameters()} == {torch.float32}
    assert tiny_model.encode_queries(["bank"]).shape == (1, 32)


def test_the_stage_can_end_with_the_best_checkpoint(trainer, weights, tiny_model, row_set, tmp_path):
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


def test_every_step_records_tokens_per_second_and_mfu(trainer, tiny_model, row_set, tmp_path):
    trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2, peak_tflops=1e-3).train()
    for line in read_metrics(tmp_path / "metrics.jsonl"):
        assert 0 < line["mfu"] < 100
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"])


def test_a_batch_that_fits_is_computed_once_and_another_gives_the_same(
    trainer, weights, tiny_backbone, row_set, tmp_path, without_dropout
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


def test_gradient_checkpointing_changes_nothing_but_memory(
    trainer, weights, tiny_backbone, row_set, tmp_path, without_dropout
):
    from gecko_core import Gecko

    trained = []
    for enabled in (False, True):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        without_dropout(model)  # which drops other units in passes that are repeated
        model.padding_free = False
        trainer(model, [row_set("a", 32)], tmp_path / str(enabled), max_steps=2, gradient_checkpointing=enabled).train()
        trained.append(weights(model))
    torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-6)


def test_training_without_padding_learns_the_same(trainer, weights, tiny_backbone, row_set, tmp_path, without_dropout):
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


def test_a_projection_is_trained_along_and_no_part_of_the_model(trainer, tiny_backbone, tiny_model, row_set, tmp_path):
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


def test_blocks_are_learned_from(trainer, tiny_model, neighbours, tmp_path):
    blocks = BlockSet("blocks", neighbours(60), BlocksConfig(documents=16, queries=12, shared=2), hard_negatives=1)
    objective = {"contrastive_weight": 0.0, "block": {"weight": 1.0}, "kl": {"weight": 0.1, "documents": 4}}
    summary = trainer(tiny_model, [blocks], tmp_path, epochs=8, objective=objective).train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["block"] < lines[0]["block"]
    assert all(line["rows"] <= 12 and line["judged"] > 2 for line in lines)
    assert summary.steps == 8 * blocks.batches


def test_gradient_caching_of_a_block_changes_nothing_but_memory(trainer, weights, tiny_backbone, neighbours, tmp_path):
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
def test_a_compiled_backbone_trains_to_the_same_weights(
    trainer, weights, tiny_backbone, row_set, tmp_path, without_dropout
):
    from gecko_core import Gecko

    trained = []
    for compiled in (False, True):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        without_dropout(model)
        trainer(model, [row_set("a", 32)], tmp_path / str(compiled), max_steps=3, compile=compiled).train()
        trained.append(weights(model))
    torch.testing.assert_close(*trained, rtol=1e-3, atol=1e-5)


def test_steps_that_have_nothing_to_compare_stop_before_anything_is_saved(trainer, weights, tiny_model, tmp_path):
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


def test_more_ranks_than_a_batch_has_rows_are_refused_before_training(tiny_model, tmp_path):
    """Rows that have a query or a passage in common are in batches of their own: a rank had none, and failed late."""
    rows = [TrainingRow("t", f"query {n % 2}", Document(f"passage {n}")) for n in range(8)]
    mixture = Mixture([RowSet.from_rows("alike", rows)], batch_size=8)
    ranks = SimpleNamespace(process_index=0, num_processes=3, is_main_process=True)
    objectives = [Objective(ObjectiveConfig(), dims=tiny_model.dims)]
    with pytest.raises(ConfigError, match="set alike: a batch of 2 rows is too small for 3 ranks"):
        Trainer(tiny_model, mixture, objectives, TrainerConfig(batch_size=8), tmp_path, accelerator=ranks)
    good = RowSet.from_rows("good", [TrainingRow("t", f"query {n}", Document(f"passage {n}")) for n in range(8)])
    never_drawn = Mixture([mixture.sets[0], good], batch_size=8, weights={"alike": 0.0, "good": 1.0})
    Trainer(tiny_model, never_drawn, objectives * 2, TrainerConfig(batch_size=8), tmp_path, accelerator=ranks)
    streamed = Mixture([StreamedSet("stream", lambda: iter(rows), rows=8), good], batch_size=8)
    with pytest.raises(ConfigError, match="set stream: a batch of 2 rows is too small for 3 ranks"):
        Trainer(tiny_model, streamed, objectives * 2, TrainerConfig(batch_size=8), tmp_path, accelerator=ranks)
    small = Mixture([good], batch_size=2)
    with pytest.raises(ConfigError, match="batch_size 2: too small for 3 ranks"):
        Trainer(tiny_model, small, objectives, TrainerConfig(batch_size=2), tmp_path, accelerator=ranks)
