"""One rank with the whole batch equals several ranks with a slice each: real processes, Gloo."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

_RANK = """
import sys, io, json, pathlib, torch
import torch.distributed as dist
sys.path.insert(0, sys.argv[4])
from conftest import make_rows
from rich.console import Console
from gecko_core import Gecko
from gecko_train.config import ObjectiveConfig, TrainerConfig
from gecko_train.mixture import Mixture
from gecko_train.objective import Objective
from gecko_train.rows import RowSet
from gecko_train.trainer import Trainer
torch.set_num_threads(1)
model = Gecko.from_backbone(sys.argv[1], dims=(32, 16), device="cpu", dtype=torch.float32)
for module in model.modules():  # dropout differs between ranks by design
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
if hasattr(model.backbone.config, "attention_probs_dropout_prob"):
    model.backbone.config.attention_probs_dropout_prob = 0.0
for module in model.modules():
    if isinstance(getattr(module, "dropout_prob", None), float):
        module.dropout_prob = 0.0
    if isinstance(getattr(module, "attention_dropout", None), float):
        module.attention_dropout = 0.0
rows = make_rows(30) + make_rows(6, seed=9, label="x")
sets = [RowSet.from_rows("triplets", rows), RowSet.from_rows("pairs", make_rows(22, negatives=0, seed=3))]
config = TrainerConfig(batch_size=11, learning_rate=1e-3, precision="fp32", micro_batch_tokens=96, max_steps=int(sys.argv[3]), checkpoint_every=2, keep_checkpoints=9)
objectives = [Objective(ObjectiveConfig(hard_negatives=1), dims=(32, 16)), Objective(ObjectiveConfig(hard_negatives=0, negatives_scope="batch"), dims=(32, 16))]
trainer = Trainer(model, Mixture(sets, batch_size=11, seed=0), objectives, config, pathlib.Path(sys.argv[2]), console=Console(file=io.StringIO()))
counted = []
original = dist.all_reduce
if trainer.world_size > 1:
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
    prepare = trainer._prepare
    def watched():
        wrapped, optimizer = prepare()
        def hook(state, bucket):
            counted.append(bucket.is_last())
            return default_hooks.allreduce_hook(state, bucket)
        wrapped.register_comm_hook(None, hook)
        return wrapped, optimizer
    trainer._prepare = watched
trainer.train()
if trainer.rank == 0:
    (pathlib.Path(sys.argv[2]) / "reductions.json").write_text(json.dumps(counted))
if dist.is_initialized():
    dist.destroy_process_group()
"""


def launch(world_size, backbone, folder, steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(world_size):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        if world_size > 1:
            environment |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
        arguments = [str(backbone), str(folder), str(steps), os.path.dirname(__file__)]
        running.append(subprocess.Popen([sys.executable, "-c", _RANK, *arguments], env=environment))
    assert [process.wait(timeout=240) for process in running] == [0] * world_size


@pytest.fixture(scope="module")
def runs(tiny_backbone, tmp_path_factory):
    """The same four steps on 1 rank and on 2."""
    folder = tmp_path_factory.mktemp("worlds")
    for world_size in (1, 2):
        launch(world_size, tiny_backbone, folder / str(world_size), 4)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_loss_gradient_and_weights_do_not_depend_on_the_number_of_ranks(runs):
    one, two = lines(runs / "1"), lines(runs / "2")
    assert {line["set"] for line in one} == {"triplets", "pairs"}
    for a, b in zip(one, two, strict=True):
        assert a["set"] == b["set"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)
    for step in ("step-000002", "step-000004"):
        found = [load_file(runs / str(n) / "checkpoints" / step / "model.safetensors") for n in (1, 2)]
        for name, tensor in found[0].items():
            torch.testing.assert_close(tensor, found[1][name], rtol=1e-3, atol=3e-5)


def test_a_step_reduces_gradients_once_however_many_micro_batches_it_has(runs):
    assert json.loads((runs / "2" / "reductions.json").read_text()) == [True] * 4


def test_a_run_of_two_ranks_goes_on_with_one(runs, tiny_backbone, tmp_path):
    import shutil

    shutil.copytree(runs / "2", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    launch(1, tiny_backbone, tmp_path / "run", 4)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4]
    for a, b in zip(lines(tmp_path / "run"), lines(runs / "1"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
