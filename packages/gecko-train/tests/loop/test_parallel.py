"""One rank with the whole batch equals several ranks with a slice each: real processes, Gloo."""

import importlib.util
import json
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file

from gecko_core.errors import BackendError
from gecko_train.loop.parallel import lost_ranks_told, own_device

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("parallel")]  # one process, which has the runs of all tests

#: FSDP2 of PyTorch 2.6 asks a CPU's stream for what it has not.
SHARDS = hasattr(torch.cpu.Stream, "record_event")
needs_shards = pytest.mark.skipif(not SHARDS, reason="needs a PyTorch that shards on CPUs")
ADAPTERS = {"lora": {"rank": 4, "alpha": 8}}
FSDP = pytest.param("fsdp", marks=needs_shards)


def launch(start_training, world_size, backbone, folder, steps, **more):
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
                dropout=False, **more,
            )
        )  # fmt: skip
    for process in running:
        process.join(timeout=240)
    assert [process.exitcode for process in running] == [0] * world_size


@pytest.fixture(scope="module")
def runs(tiny_backbone, tmp_path_factory, start_training):
    """The same four steps on 1 rank, on 2, and on 2 with everything cut over the ranks (FSDP2)."""
    folder = tmp_path_factory.mktemp("worlds")
    for world_size in (1, 2):
        launch(start_training, world_size, tiny_backbone, folder / str(world_size), 4)
    if SHARDS:
        launch(start_training, 2, tiny_backbone, folder / "fsdp", 4, parallel="fsdp")
    return folder


@pytest.fixture(scope="module")
def block_runs(tiny_backbone, tmp_path_factory, start_training):
    """Six steps of blocks, with scores and with a teacher, on 1 rank, on 2, and on 2 with FSDP2."""
    folder = tmp_path_factory.mktemp("blocks")
    for name, world_size, parallel in (("1", 1, "ddp"), ("2", 2, "ddp"), ("fsdp", 2, "fsdp")):
        if parallel != "fsdp" or SHARDS:
            launch(start_training, world_size, tiny_backbone, folder / name, 6, parallel=parallel, in_blocks=True)
    return folder


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("other", ["2", FSDP])
def test_loss_gradient_and_weights_do_not_depend_on_the_number_of_ranks(runs, other):
    alone, several = lines(runs / "1"), lines(runs / other)
    assert {line["set"] for line in alone} == {"triplets", "pairs"}
    # Of all ranks; a text that two of them have counts twice.
    assert all(a["rows"] == b["rows"] and a["tokens"] <= b["tokens"] for a, b in zip(alone, several, strict=True))
    for a, b in zip(alone, several, strict=True):
        assert a["set"] == b["set"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)
    for step in ("step-000002", "step-000004"):
        weights = [load_file(runs / n / "checkpoints" / step / "model.safetensors") for n in ("1", other)]
        for name, tensor in weights[0].items():
            torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("other", ["2", FSDP])
def test_blocks_and_what_is_trained_along_do_not_depend_on_the_number_of_ranks(block_runs, other):
    alone, several = lines(block_runs / "1"), lines(block_runs / other)
    assert {line["set"] for line in alone} >= {"judged", "taught"}
    for a, b in zip(alone, several, strict=True):
        assert a["set"] == b["set"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=2e-3)
    for file in ("model", "beside"):
        weights = [
            load_file(block_runs / n / "checkpoints" / "step-000006" / f"{file}.safetensors") for n in ("1", other)
        ]
        for name, tensor in weights[0].items():
            torch.testing.assert_close(tensor, weights[1][name], rtol=2e-3, atol=1e-4)


@pytest.fixture(scope="module")
def adapted_alone(tiny_backbone, tmp_path_factory, start_training):
    folder = tmp_path_factory.mktemp("adapters") / "1"
    launch(start_training, 1, tiny_backbone, folder, 4, options=ADAPTERS)
    return folder


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `lora`")
@pytest.mark.parametrize("parallel", ["ddp", FSDP])
def test_adapters_do_not_depend_on_the_number_of_ranks(
    adapted_alone, tiny_backbone, tmp_path, start_training, parallel
):
    """Those of the pooler, which gets no gradient, ended the second step of several ranks."""
    launch(start_training, 2, tiny_backbone, tmp_path / "2", 4, parallel=parallel, options=ADAPTERS)
    for a, b in zip(lines(adapted_alone), lines(tmp_path / "2"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)
    alone, several = (load_file(folder / "trained.safetensors") for folder in (adapted_alone, tmp_path / "2"))
    assert alone.keys() == several.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(tensor, several[name], rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize(("grad_cache", "tokens"), [("auto", 480), (True, 500), (False, 240)])
def test_ranks_whose_texts_fit_wait_for_those_whose_do_not(
    runs, tiny_backbone, tmp_path, start_training, grad_cache, tokens
):
    """A rank that cached its gradients beside one that did not, or had another number of pieces, ended both."""
    options = {"grad_cache": grad_cache, "micro_batch_tokens": tokens}
    launch(start_training, 2, tiny_backbone, tmp_path / "run", 4, options=options)
    decided = [json.loads((tmp_path / "run" / f"micro-batches-{rank}.json").read_text()) for rank in (0, 1)]
    assert any(a != b for a, b in zip(*decided, strict=True))  # else nothing is tried here
    for a, b in zip(lines(tmp_path / "run"), lines(runs / "1"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-3)


def test_a_step_reduces_gradients_once_however_many_micro_batches_it_has(runs):
    assert json.loads((runs / "2" / "reductions.json").read_text()) == [True] * 4


@pytest.mark.parametrize(
    ("begun", "ranks", "parallel"),
    [
        ("2", 1, "ddp"),
        pytest.param("fsdp", 1, "ddp", marks=needs_shards),
        pytest.param("1", 2, "fsdp", marks=needs_shards),
    ],
)
def test_a_run_goes_on_at_another_world_size_with_the_same_data(
    runs, tiny_backbone, tmp_path, start_training, begun, ranks, parallel
):
    shutil.copytree(runs / begun, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000004")
    launch(start_training, ranks, tiny_backbone, tmp_path / "run", 4, parallel=parallel)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4]
    for a, b in zip(lines(tmp_path / "run"), lines(runs / "1"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


@needs_shards
def test_after_fsdp_the_model_holds_its_last_checkpoint(runs):
    trained = load_file(runs / "fsdp" / "trained.safetensors")
    saved = load_file(runs / "fsdp" / "checkpoints" / "step-000004" / "model.safetensors")
    assert all(torch.equal(tensor, trained[name]) for name, tensor in saved.items())


def test_all_ranks_stop_early_when_the_first_one_does(tiny_backbone, tmp_path, start_training):
    launch(start_training, 2, tiny_backbone, tmp_path / "run", 20, options={"patience": 3}, judged=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 7))
    assert (tmp_path / "run" / "checkpoints" / "step-000006").is_dir()


def test_every_rank_has_a_gpu_of_its_own(monkeypatch):
    """Models were loaded on the first GPU in all ranks, and moved by accelerate behind the trainer's back."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device() is None
    devices = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        devices.append(own_device())
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device() is None


def test_a_rank_that_ends_is_told_by_the_others(monkeypatch):
    monkeypatch.setattr("gecko_train.loop.parallel.world", lambda: (0, 2))
    gone = "[/build/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer"
    with pytest.raises(BackendError, match="another process of this run has ended"), lost_ranks_told():
        raise RuntimeError(gone)
    with pytest.raises(RuntimeError, match="another thing"), lost_ranks_told():
        raise RuntimeError("another thing")
    monkeypatch.setattr("gecko_train.loop.parallel.world", lambda: (0, 1))
    with pytest.raises(RuntimeError, match="gloo"), lost_ranks_told():
        raise RuntimeError(gone)
