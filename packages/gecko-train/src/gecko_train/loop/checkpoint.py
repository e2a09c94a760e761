"""Checkpoints that are whole or do not exist.

A checkpoint is a folder ``step-000123`` with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``. It is
written under a temporary name, flushed to disk and renamed, so a killed or full machine never leaves half of one to be
chosen. No pickles. Neither the data plan nor the random generators are in it: both are functions of (seed, step).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gecko_core.errors import ConfigError, DataError
from gecko_train.loop.sharding import cut_like, whole

_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int
    state: dict[str, Any]


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    best: int | None = None,
    trained_only: bool = False,
    writes: bool = True,
) -> Path:
    """Write the checkpoint of ``step``, then remove all but the last ``keep`` (and step ``best``).

    Args:
        trained_only: leave out what is frozen (LoRA): it is the start model's.
        writes: False on all ranks but one; they only help to put together what is cut over ranks.

    Raises:
        DataError: the disk is full or not writable; nothing half-written is left.
    """
    final = folder / f"{_PREFIX}{step:06d}"
    weights, moments = model_tensors(model, trained_only), _optimizer_tensors(optimizer)
    if not writes:
        return final
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file(weights, temporary / "model.safetensors")
        save_file(moments, temporary / "optimizer.safetensors")
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        (temporary / "state.json").write_text(json.dumps({**state, "step": step, "files": sizes}, indent=1))
        for path in temporary.iterdir():
            _flush(path)
        _flush(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{final}: checkpoint not written ({reason}); make room and start the same command again: "
            "training goes on from the last whole checkpoint"
        ) from error
    for old in checkpoints(folder)[:-keep]:
        if old.step != best:
            shutil.rmtree(old.path)
    return final


def checkpoints(folder: Path) -> list[Checkpoint]:
    """All whole checkpoints in ``folder``, oldest first. Folders that are not whole are passed over."""
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*")) if folder.is_dir() else []:
        try:
            state = json.loads((path / "state.json").read_text())
            whole = all((path / name).stat().st_size == size for name, size in state["files"].items())
        except (OSError, ValueError, KeyError):
            continue
        if whole:
            found.append(Checkpoint(path, int(state["step"]), state))
    return sorted(found, key=lambda one: one.step)


def latest(folder: Path) -> Checkpoint | None:
    """The whole checkpoint of the highest step, if there is one."""
    found = checkpoints(folder)
    return found[-1] if found else None


def load(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    trained_only: bool = False,
) -> None:
    """Put the checkpoint's weights (and optimizer state) into ``model`` (and ``optimizer``), in place.

    Raises:
        ConfigError: the checkpoint belongs to another model.
    """
    try:
        tensors = load_file(checkpoint.path / "model.safetensors")
    except SafetensorError as error:
        raise DataError(f"{checkpoint.path}: damaged checkpoint ({error}); remove the folder and start again") from None
    expected = _own_tensors(model, trained_only)
    if tensors.keys() != expected.keys() or any(tensors[name].shape != expected[name].shape for name in tensors):
        differing = sorted(
            name
            for name in tensors.keys() | expected.keys()
            if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape
        )
        raise ConfigError(
            f"{checkpoint.path}: checkpoint of another model (it differs in {differing[0]}); "
            "choose another output folder or the model it was made with"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(cut_like(tensor, expected[name]))
    if optimizer is not None:
        _load_optimizer(load_file(checkpoint.path / "optimizer.safetensors"), optimizer)


def model_tensors(model: nn.Module, trained_only: bool = False) -> dict[str, Tensor]:
    """The model's state, each storage once (tied weights appear under their first name), contiguous on the CPU."""
    return {
        name: whole(tensor).detach().cpu().contiguous() for name, tensor in _own_tensors(model, trained_only).items()
    }


def _own_tensors(model: nn.Module, trained_only: bool) -> dict[str, Tensor]:
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    seen: set[Any] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        if trained_only and name not in trained:
            continue
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local.data_ptr() in seen and local.numel():
            continue
        seen.add(local.data_ptr())
        tensors[name] = tensor
    return tensors


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    # Hyper-parameters are not saved: the learning rate is a function of the step, the rest comes from the recipe.
    return {
        f"{number}.{key}": whole(torch.as_tensor(value)).detach().cpu().contiguous().clone()
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _load_optimizer(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = cut_like(tensor, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
