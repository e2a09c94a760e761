import errno
import json

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from gecko_core.errors import ConfigError, DataError
from gecko_train.loop import checkpoint


def trained(width=4, steps=3):
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, width)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def test_weights_and_optimizer_come_back_to_the_bit(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 3, model, optimizer, {"plan": "p"})
    fresh, other = trained(steps=0)
    saved = checkpoint.latest(tmp_path)
    checkpoint.load(saved, fresh, other)
    assert saved.step == 3
    assert saved.state["plan"] == "p"
    for network, stepper in ((model, optimizer), (fresh, other)):
        stepper.zero_grad()
        network(torch.ones(1, 4)).square().sum().backward()
        stepper.step()
    assert torch.equal(model.weight, fresh.weight)
    assert sorted(path.name for path in saved.path.iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
    ]


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.b.weight = self.a.weight

    model = Tied()
    wanted = model.a.weight.detach().clone()
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.save(tmp_path, 1, model, optimizer, {})
    nn.init.zeros_(model.a.weight)
    checkpoint.load(checkpoint.latest(tmp_path), model, optimizer)
    assert torch.equal(model.b.weight, wanted)
    assert model.a.weight is model.b.weight


def test_the_last_few_and_the_best_are_kept(tmp_path):
    model, optimizer = trained()
    for step in range(1, 7):
        checkpoint.save(tmp_path, step, model, optimizer, {}, keep=2, best=2)
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path)] == [2, 5, 6]


def test_what_is_not_whole_is_never_chosen(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 1, model, optimizer, {}, keep=9)
    for step in (2, 3, 4):
        checkpoint.save(tmp_path, step, model, optimizer, {}, keep=9)
    (tmp_path / "step-000004" / "state.json").unlink()
    (tmp_path / "step-000003" / "optimizer.safetensors").write_bytes(b"half")
    (tmp_path / "step-000002" / "state.json").write_text('{"step": 2')
    (tmp_path / ".step-000005.1.tmp").mkdir()
    assert checkpoint.latest(tmp_path).step == 1


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_checkpoint_that_a_disk_has_changed_is_passed_over(tmp_path, name, caplog):
    model, optimizer = trained()
    for step in (1, 2):
        checkpoint.save(tmp_path, step, model, optimizer, {})
    flip(tmp_path / "step-000002" / name)
    assert checkpoint.latest(tmp_path).step == 1
    assert f"step-000002: {name} is not what was written; training goes on from an earlier one" in caplog.text
    damaged = checkpoint.checkpoints(tmp_path)[-1]
    with pytest.raises(DataError, match=rf"step-000002: {name} is not what was written; remove the folder"):
        checkpoint.load(damaged, model, optimizer)


def test_a_state_that_a_disk_has_changed_is_passed_over(tmp_path):
    model, optimizer = trained()
    for step in (1, 2):
        checkpoint.save(tmp_path, step, model, optimizer, {"score": 0.5})
    state = tmp_path / "step-000002" / "state.json"
    state.write_text(state.read_text().replace("0.5", "0.7"))
    assert [kept.step for kept in checkpoint.checkpoints(tmp_path)] == [1]


def test_a_checkpoint_of_an_earlier_version_has_no_checksums(tmp_path):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 1, model, optimizer, {})
    state = tmp_path / "step-000001" / "state.json"
    kept = json.loads(state.read_text())
    del kept["sha256"], kept["checksum"]
    state.write_text(json.dumps(kept))
    checkpoint.load(checkpoint.latest(tmp_path), model, optimizer)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "x"), SafetensorError("I/O error: No space left on device")])
def test_a_full_disk_is_one_line_and_leaves_the_older_one(tmp_path, monkeypatch, error):
    model, optimizer = trained()
    checkpoint.save(tmp_path, 1, model, optimizer, {})

    def full(*_):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DataError, match=r"step-000002: cannot be written .*No space left on device.*; make room and"):
        checkpoint.save(tmp_path, 2, model, optimizer, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]


def test_another_models_checkpoint_is_refused(tmp_path):
    checkpoint.save(tmp_path, 1, *trained(width=4), {})
    with pytest.raises(ConfigError, match=r"checkpoint of another model .it differs in weight."):
        checkpoint.load(checkpoint.latest(tmp_path), *trained(width=5))


def test_what_is_trained_along_is_saved_beside_the_model(tmp_path):
    model, optimizer = trained()
    along = nn.Linear(3, 5)
    checkpoint.save(tmp_path, 1, model, optimizer, {}, beside=along)
    fresh, other = trained(steps=0)
    again = nn.Linear(3, 5)
    checkpoint.load(checkpoint.latest(tmp_path), fresh, other, beside=again)
    assert torch.equal(again.weight, along.weight)
    (tmp_path / "step-000001" / "beside.safetensors").unlink()
    assert checkpoint.latest(tmp_path) is None  # no longer whole
