"""One rank with the whole batch equals several ranks with a slice each: real processes, Gloo."""

import json
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file


def launch(start_training, world_size, backbone, folder, steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(world_size):
        environment = {"ACCELERATE_USE_CPU": "true"}
        if world_size > 1:
            environment |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        running.append(
            start_training(
                {key: str(value) for key, value in environment.items()},
                backbone=str(backbone), folder=str(folder), steps=steps, checkpoint_every=2, batch_size=11,
                dropout=False,
            )
        )  # fmt: skip
    for process in running:
        process.join(timeout=240)
    assert [process.exitcode for process in running] == [0] * world_size


@pytest.fixture(scope="module")
def runs(tiny_backbone, tmp_path_factory, start_training):
    """The same four steps on 1 rank and on 2."""
    folder = tmp_path_factory.mktemp("worlds")
    for world_size in (1, 2):
        launch(start_training, world_size, tiny_backbone, folder / str(world_size), 4)
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


def test_a_run_of_two_ranks_goes_on_with_one(runs, tiny_backbone, tmp_path, start_training):
    shutil.copytree(runs / "2", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    launch(start_training, 1, tiny_backbone, tmp_path / "run", 4)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4]
    for a, b in zip(lines(tmp_path / "run"), lines(runs / "1"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
