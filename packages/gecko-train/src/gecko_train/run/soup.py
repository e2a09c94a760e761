"""Model soup: the mean of the weights of several checkpoints or runs (Wortsman et al. 2022, arXiv 2203.05482)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from gecko_core import Gecko
from gecko_core.errors import ConfigError, ModelError
from gecko_core.io import lies_in, refuse_link
from gecko_train.run.weights import Method, interpolate

#: Entries of a backbone's configuration that say nothing of what it computes.
_NAMES = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
_POOLER = "backbone.pooler."  # which mean pooling has no use for, and some folders lack


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
        folders: models that ``Gecko.from_pretrained`` reads, of one architecture and vocabulary. The first gives
            tokenizer, prompts and dims; int8 ranges, which are of weights before they are mixed, are given up.
        out: where the soup goes.
        weights: one per folder, default equal; they are scaled to sum to 1.
        method: ``slerp`` mixes two models, tensor by tensor on the sphere.
        overwrite: replace a model that is in ``out`` already.

    Returns:
        The soup, loaded.

    Raises:
        ConfigError: fewer than two folders, weights that do not fit, ``slerp`` of more than two models, or an ``out``
            that holds something already, or is one of the folders or lies in one.
        ModelError: a folder that cannot be read, or a model of another architecture or vocabulary.
    """
    if len(folders) < 2:
        raise ConfigError(f"soup: {len(folders)} model folder given; name at least two")
    if method not in get_args(Method):
        raise ConfigError(f"soup: unknown method {method!r}; it is one of {', '.join(get_args(Method))}")
    if isinstance(weights, str):
        raise ConfigError(f"soup: weights are numbers, one per folder, not {weights!r}")
    if method == "slerp" and len(folders) > 2:
        raise ConfigError(f"soup: slerp is between two models, {len(folders)} given; use --method linear")
    given = [float(weight) for weight in weights] if weights is not None else [1.0] * len(folders)
    shares = _shares(given, len(folders))
    _check_output(Path(out), [Path(folder) for folder in folders], overwrite)
    soup = _read(folders[0])
    mixed = _mixed(soup, folders[1:], shares, method)
    with torch.no_grad():
        for name, tensor in _weights(soup).items():
            if name in mixed:
                tensor.copy_(mixed[name])
    soup.calibration = {}
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
        if lies_in(folder, out):
            raise ConfigError(f"{out}: holds {folder}, an input, which would be deleted; choose another --out")
        if (folder / "modules.json").is_file() and lies_in(out, folder):
            raise ConfigError(
                f"{out}: lies in {folder}, an input, which would be another model then; choose another --out"
            )
    refuse_link(out)
    is_taken = any(out.iterdir()) if out.is_dir() else out.exists()
    if is_taken and not overwrite:
        raise ConfigError(f"{out}: exists; choose another name or give --overwrite")


def _read(folder: str | Path) -> Gecko:
    """A model with its weights in fp32, which is exact: they are rounded once, after they were mixed."""
    if not Path(folder).exists():
        raise ModelError(f"{folder}: no such folder; give folders that gecko-train or Gecko.save_pretrained wrote")
    return Gecko.from_pretrained(folder, device="cpu", dtype=torch.float32)


def _weights(model: Gecko) -> dict[str, Tensor]:
    """The weights by name; buffers of whole numbers stay those of the first model."""
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def _mixed(soup: Gecko, others: Sequence[str | Path], shares: Sequence[float], method: Method) -> dict[str, Tensor]:
    """The first model's weights mixed with those of the others, which are read one after the other.

    A pooler that one of them lacks is not among them.
    """
    own = _weights(soup)
    if method == "slerp":
        (weights,) = _alike(soup, others)
        return {name: interpolate(own[name], weights[name], shares[1], method) for name in own if name in weights}
    # In fp64, where the order of the models does not show in fp32.
    totals = {name: tensor.double() * shares[0] for name, tensor in own.items()}
    for weights, share in zip(_alike(soup, others), shares[1:], strict=True):
        totals = {name: total.add_(weights[name], alpha=share) for name, total in totals.items() if name in weights}
    return totals


def _alike(first: Gecko, others: Sequence[str | Path]) -> Iterator[dict[str, Tensor]]:
    """The weights of other models, each of the first one's kind."""
    for folder in others:
        other = _read(folder)
        _check_same_kind(first, other, folder)
        yield _weights(other)


def _check_same_kind(first: Gecko, other: Gecko, folder: str | Path) -> None:
    """Check that equal places in the weights of two models mean the same."""
    shapes, others = (
        {name: tensor.shape for name, tensor in _weights(model).items() if not name.startswith(_POOLER)}
        for model in (first, other)
    )
    if shapes != others:
        raise ModelError(f"{folder}: its weights differ in name or shape from the first model's; mix one kind")
    if _activations(first) != _activations(other):
        raise ModelError(f"{folder}: its projection has another activation than the first model's; mix one kind")
    settings, those = (_settings(model) for model in (first, other))
    key = next((key for key in sorted({*settings, *those}) if settings.get(key) != those.get(key)), None)
    if key is not None:
        raise ModelError(
            f"{folder}: its backbone has {key} {those.get(key)!r}, and the first model's {settings.get(key)!r}; "
            "mix one kind"
        )
    if first.tokenizer.get_vocab() != other.tokenizer.get_vocab():
        raise ModelError(f"{folder}: its tokenizer has other words, or other numbers of them, than the first model's")


def _activations(model: Gecko) -> list[str]:
    return [layer.activation_name for layer in model.head]


def _settings(model: Gecko) -> dict[str, Any]:
    """What its kind of configuration knows; what others note beside it, such as widths, is not of the backbone."""
    config = model.backbone.config
    known = type(config)().to_dict().keys() - _NAMES
    return {key: value for key, value in config.to_dict().items() if key in known}
