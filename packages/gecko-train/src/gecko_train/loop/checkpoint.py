"""Checkpoints that are complete or do not exist.

A checkpoint is a folder ``step-000123`` with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``, and
``beside.safetensors`` for what is trained along without being part of the model (a projection to a teacher's width). It
appears under its name when all of it is on disk, so a killed or full machine never leaves half of one to be chosen. No
pickles. Neither the data plan nor the random generators are in it: both are functions of (seed, step).
"""

from __future__ import annotations

import logging
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
from gecko_core.io import file_hash, read_json, remove_folder, unwritable, whole_folder, write_json
from gecko_train.loop.parallel import gather_shards, shard_like

_log = logging.getLogger(__name__)
_PREFIX = "step-"
_CURE = "make room and start the same command again: training goes on from the last whole checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk."""

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
    beside: nn.Module | None = None,
) -> Path:
    """Write the checkpoint of ``step``, then remove all but the last ``keep`` (and step ``best``).

    Args:
        folder: where the checkpoints are kept.
        step: optimizer steps so far.
        model: the weights to save.
        optimizer: its moments are saved; the learning rate is a function of the step.
        state: what else belongs to the checkpoint.
        keep: how many of the last checkpoints stay.
        best: a step that stays besides.
        trained_only: leave out frozen weights (LoRA): they are the start model's.
        writes: False on all ranks but one; they only help to gather sharded tensors.
        beside: what is trained along and no part of the model.

    Returns:
        The checkpoint's folder.

    Raises:
        DataError: the disk is full or not writable; no partial checkpoint is left.
    """
    final = folder / f"{_PREFIX}{step:06d}"
    weights, moments = model_tensors(model, trained_only), _optimizer_tensors(optimizer)
    if not writes:
        return final
    try:
        with whole_folder(final, cure=_CURE) as temporary:
            save_file(weights, temporary / "model.safetensors")
            save_file(moments, temporary / "optimizer.safetensors")
            if beside is not None:
                save_file(model_tensors(beside), temporary / "beside.safetensors")
            files = sorted(temporary.iterdir())
            sizes = {path.name: path.stat().st_size for path in files}
            hashes = {path.name: file_hash(path) for path in files}
            content = {**state, "step": step, "files": sizes, "sha256": hashes}
            write_json(temporary / "state.json", content, indent=1, checksum="checksum")
    except SafetensorError as error:  # its way to report a full disk
        raise unwritable(final, error, _CURE) from error
    for old in checkpoints(folder)[:-keep]:
        if old.step != best:
            remove_folder(old.path)
    return final


def checkpoints(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints in ``folder``, oldest first; others are passed over."""
    complete = []
    for path in folder.glob(f"{_PREFIX}*"):
        try:
            state = read_json(path / "state.json", checksum="checksum")
            if all((path / name).stat().st_size == size for name, size in state["files"].items()):
                complete.append(Checkpoint(path, int(state["step"]), state))
        except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return sorted(complete, key=lambda checkpoint: checkpoint.step)


def latest(folder: Path) -> Checkpoint | None:
    """The checkpoint of the highest step that is what was written, if there is one.

    Training goes on from an earlier one where a disk has damaged the last: its steps are functions of seed and step.
    """
    for checkpoint in reversed(checkpoints(folder)):
        damaged = _damaged(checkpoint)
        if damaged is None:
            return checkpoint
        _log.warning("%s: %s is not what was written; training goes on from an earlier one", checkpoint.path, damaged)
    return None


def load(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    trained_only: bool = False,
    beside: nn.Module | None = None,
) -> None:
    """Load the checkpoint's weights (and optimizer state) into ``model`` (and ``optimizer``), in place.

    Args:
        checkpoint: the checkpoint.
        model: gets the weights, sharded as its own are.
        optimizer: gets the moments.
        trained_only: as it was saved.
        beside: gets what was trained along.

    Raises:
        ConfigError: the checkpoint belongs to another model.
        DataError: a file of it is damaged.
    """
    damaged = _damaged(checkpoint)
    if damaged is not None:
        raise DataError(f"{checkpoint.path}: {damaged} is not what was written; remove the folder and start again")
    try:
        tensors = load_file(checkpoint.path / "model.safetensors")
        along = load_file(checkpoint.path / "beside.safetensors") if beside is not None else {}
        moments = load_file(checkpoint.path / "optimizer.safetensors") if optimizer is not None else {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{checkpoint.path}: damaged checkpoint ({error}); remove the folder and start again") from None
    expected = _saved_tensors(model, trained_only)
    differing = [
        name
        for name in sorted(tensors.keys() | expected.keys())
        if name not in tensors or name not in expected or tensors[name].shape != expected[name].shape
    ]
    if differing:
        raise ConfigError(
            f"{checkpoint.path}: checkpoint of another model (it differs in {differing[0]}); "
            "choose another output folder or the model it was made with"
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(shard_like(tensor, expected[name]))
    if beside is not None:
        beside.load_state_dict(along)
    if optimizer is not None:
        _load_optimizer(moments, optimizer)


def _damaged(checkpoint: Checkpoint) -> str | None:
    """A file of a checkpoint that is not what was written, if there is one."""
    hashes: dict[str, str] = checkpoint.state.get("sha256", {})  # earlier versions had none
    try:
        return next((name for name, digest in hashes.items() if file_hash(checkpoint.path / name) != digest), None)
    except OSError as error:
        return str(error.filename)


def model_tensors(model: nn.Module, trained_only: bool = False) -> dict[str, Tensor]:
    """The model's state, each storage once (tied weights appear under their first name), contiguous on the CPU."""
    return {name: _on_cpu(tensor) for name, tensor in _saved_tensors(model, trained_only).items()}


def _saved_tensors(model: nn.Module, trained_only: bool) -> dict[str, Tensor]:
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
    # Hyper-parameters are not saved: the learning rate is a function of the step, the others come from the recipe.
    return {
        f"{number}.{key}": _on_cpu(torch.as_tensor(value)).clone()
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _on_cpu(tensor: Tensor) -> Tensor:
    return gather_shards(tensor).detach().cpu().contiguous()


def _load_optimizer(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = shard_like(tensor, parameters[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
