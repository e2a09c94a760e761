"""Model soup: the mean of the weights of several checkpoints or runs (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError
from gecko_core.folder import read_layout
from gecko_train.run.weights import Method, interpolate, mean

_FILE = "model.safetensors"


def soup(
    folders: Sequence[str | Path],
    out: str | Path,
    weights: Sequence[float] | None = None,
    method: Method = "linear",
    *,
    overwrite: bool = False,
) -> Gecko:
    """Average saved models, projections included, and save the result.

    Args:
        folders: model folders as ``Gecko.save_pretrained`` writes them, of one architecture. The first gives tokenizer,
            prompts and dims.
        out: where the soup goes.
        weights: one per folder, default equal; they are scaled to sum to 1.
        method: ``slerp`` mixes two models, tensor by tensor on the sphere.
        overwrite: replace a model that is in ``out`` already.

    Returns:
        The soup, loaded.

    Raises:
        ConfigError: fewer than two folders, weights that do not fit, ``slerp`` of more than two models, or an ``out``
            that holds something already or is one of the folders.
        ModelError: a folder without weights, or of another architecture.
    """
    if len(folders) < 2:
        raise ConfigError(f"soup: {len(folders)} model folder given; name at least two")
    if method == "slerp" and len(folders) > 2:
        raise ConfigError(f"soup: slerp is between two models, {len(folders)} given; use --method linear")
    given = [float(weight) for weight in weights] if weights is not None else [1.0] * len(folders)
    shares = _shares(given, len(folders))
    _check_output(Path(out), [Path(folder) for folder in folders], overwrite)
    models = [_Saved.read(Path(folder)) for folder in folders]
    for other in models[1:]:
        _check_same_kind(models[0], other)
    soup = Gecko.from_pretrained(folders[0], device="cpu", dtype=torch.float32)
    parameters = soup.state_dict()
    with torch.no_grad():
        for name in models[0].shapes:
            tensors = [model.tensor(name) for model in models]
            mixed = (
                interpolate(tensors[0], tensors[1], shares[1], method) if method == "slerp" else mean(tensors, shares)
            )
            parameters[name].copy_(mixed)
    record = {"soup": [str(folder) for folder in folders], "weights": given}
    soup.save_pretrained(out, record=record if method == "linear" else {**record, "method": method})
    return soup


def _shares(weights: list[float], models: int) -> list[float]:
    """The weights scaled to sum to 1."""
    if len(weights) != models:
        raise ConfigError(f"soup: {len(weights)} weights for {models} models; give one per model")
    for number, weight in enumerate(weights, 1):
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"soup: weight {number} is {weight:g}; give a finite number that is not negative")
    total = sum(weights)
    if not 0 < total < math.inf:
        raise ConfigError(
            f"soup: the weights add up to {total:g}; they are scaled to sum to 1, so give numbers such as 1 and 3"
        )
    return [weight / total for weight in weights]


def _check_output(out: Path, folders: Sequence[Path], overwrite: bool) -> None:
    """Check that the soup replaces nothing unasked, and never one of the models that it is made of."""
    for folder in folders:
        if out.exists() and folder.exists() and out.samefile(folder):
            raise ConfigError(f"{out}: is an input as well; choose another --out")
    is_taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if is_taken and not overwrite:
        raise ConfigError(f"{out}: exists; choose another name or give --overwrite")


@dataclass(frozen=True)
class _Saved:
    """The weights of a model folder, read one tensor at a time."""

    folder: Path
    files: list[tuple[str, Any]]  # what its names begin with in the model; the open file
    activations: list[str]
    shapes: dict[str, list[int]]

    @classmethod
    def read(cls, folder: Path) -> _Saved:
        if not (folder / _FILE).exists():
            raise ModelError(f"{folder}: no {_FILE}; give folders that gecko-train or Gecko.save_pretrained wrote")
        dense = read_layout(folder).dense
        places = {"backbone.": folder / _FILE, **{f"head.{number}.": spec.path for number, spec in enumerate(dense)}}
        files: list[tuple[str, Any]] = [(prefix, safe_open(str(path), "pt")) for prefix, path in places.items()]
        names = [(prefix, name, file) for prefix, file in files for name in file.keys()]  # noqa: SIM118 - no mapping
        shapes = {prefix + name: file.get_slice(name).get_shape() for prefix, name, file in names}
        return cls(folder, files, [spec.activation for spec in dense], shapes)

    def tensor(self, name: str) -> Tensor:
        prefix, file = next((prefix, file) for prefix, file in self.files if name.startswith(prefix))
        tensor: Tensor = file.get_tensor(name.removeprefix(prefix))
        return tensor.float() if tensor.is_floating_point() else tensor  # exact, and rounded once, after mixing


def _check_same_kind(first: _Saved, other: _Saved) -> None:
    if first.shapes != other.shapes:
        raise ModelError(f"{other.folder}: its weights differ in name or shape from the first model's; mix one kind")
    if first.activations != other.activations:
        raise ModelError(f"{other.folder}: its projection has another activation than the first model's; mix one kind")
