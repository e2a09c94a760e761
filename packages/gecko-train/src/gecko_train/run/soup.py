"""Model soup: the mean of the weights of several checkpoints or runs (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError

_FILE = "model.safetensors"


def soup(folders: Sequence[str | Path], out: str | Path, weights: Sequence[float] | None = None) -> Gecko:
    """Average saved models and save the result; the first folder gives tokenizer, prompts and dims.

    Args:
        folders: model folders as ``Gecko.save_pretrained`` writes them, of one architecture.
        out: where the soup goes.
        weights: one per folder, default equal; they are scaled to sum to 1.

    Returns:
        The soup, loaded.

    Raises:
        ConfigError: fewer than two folders, or weights that do not fit.
        ModelError: a folder without weights, or of another architecture.
    """
    if len(folders) < 2:
        raise ConfigError(f"soup: {len(folders)} model folder given; name at least two")
    shares = list(weights) if weights is not None else [1.0] * len(folders)
    if len(shares) != len(folders) or min(shares) < 0 or sum(shares) <= 0:
        raise ConfigError(f"soup: weights {shares} for {len(folders)} models; give one per model, none negative")
    mean: dict[str, Tensor] = {}
    for folder, share in zip(folders, shares, strict=True):
        for name, tensor in _tensors(Path(folder), mean).items():
            # float64, so that the order of the folders does not show in the result
            part = tensor.double() * (share / sum(shares))
            mean[name] = mean[name] + part if name in mean else part
    model = Gecko.from_pretrained(folders[0], device="cpu", dtype=torch.float32)
    parameters = model.backbone.state_dict()
    with torch.no_grad():
        for name, tensor in mean.items():
            parameters[name].copy_(tensor)
    model.save_pretrained(out, record={"soup": [str(folder) for folder in folders], "weights": shares})
    return model


def _tensors(folder: Path, known: dict[str, Tensor]) -> dict[str, Tensor]:
    if not (folder / _FILE).exists():
        raise ModelError(f"{folder}: no {_FILE}; give folders that gecko-train or Gecko.save_pretrained wrote")
    if (folder / "2_Dense").exists():
        raise ModelError(f"{folder}: has a projection head, which a soup of backbones would not average; train without")
    tensors = load_file(folder / _FILE)
    if known and {name: tensor.shape for name, tensor in known.items()} != {n: t.shape for n, t in tensors.items()}:
        raise ModelError(f"{folder}: its weights differ in name or shape from the first model's; mix one kind")
    return tensors
