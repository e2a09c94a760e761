"""Texts to vectors: batches by token budget, longest first, order restored at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gecko_core.encode.precision import probed_autocast
from gecko_core.encode.quantization import check_truncate_dim
from gecko_core.errors import ConfigError, ModelError
from gecko_core.io import Progress, make_progress
from gecko_core.numbers import is_whole

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# Texts that are tokenised, sorted and encoded together. Bounds the memory of a long run; large enough that sorting by
# length leaves next to no padding.
WINDOW = 32_768
_LARGEST_BATCH = 2**31 - 1
_SHORTEST = 0.5  # of a vector that was scaled to length one


def plan_batches(
    lengths: Sequence[int] | np.ndarray,
    batch_tokens: int,
    *,
    padded: bool = True,
    max_rows: int | None = None,
    longest_first: bool = True,
) -> list[np.ndarray]:
    """Cut texts into batches of at most ``batch_tokens`` tokens; a single longer text stands alone.

    Longest first, so that texts of a batch need next to no padding, and a batch that does not fit into memory fails at
    once and not at the end of the night. Equal lengths keep their order: the same texts always make the same batches.

    Args:
        lengths: tokens of each text.
        batch_tokens: most tokens of a batch.
        padded: every row counts as much as the longest of its batch.
        max_rows: most rows of a batch.
        longest_first: sort by length, descending; False keeps the texts' own order.

    Returns:
        The row numbers of each batch.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-lengths, kind="stable") if longest_first else np.arange(len(lengths))
    ordered = lengths[order]
    ends = np.cumsum(ordered)
    batches, start = [], 0
    while start < len(order):
        if not padded:
            before = int(ends[start - 1]) if start else 0
            rows = int(np.searchsorted(ends, before + batch_tokens, side="right")) - start
        elif longest_first:
            rows = batch_tokens // max(1, int(ordered[start]))
        else:
            widths = np.maximum.accumulate(np.maximum(ordered[start : start + batch_tokens], 1))
            rows = int(np.count_nonzero(widths * np.arange(1, len(widths) + 1) <= batch_tokens))
        rows = max(1, rows if max_rows is None else min(rows, max_rows))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def default_batch_tokens(device: torch.device) -> int:
    """Return what keeps the device busy: a CPU wants its activations in cache, a GPU wants many rows."""
    return 65_536 if device.type == "cuda" else 2_048


def encode_window(model: Gecko, texts: Sequence[str], batch_tokens: int, progress: Progress) -> Tensor:
    """Encode texts that fit into memory together.

    Returns:
        Pooled vectors (n, dim), fp32, neither normalised nor truncated, on the model's device.
    """
    ids = model.tokenize(texts)
    lengths = [len(row) for row in ids]
    out = torch.empty(len(texts), model.dim, dtype=torch.float32, device=model.device)
    for rows in plan_batches(lengths, batch_tokens, padded=not model.runs_packed):
        pooled = model(rows=[ids[row] for row in rows])
        out[torch.from_numpy(rows).to(out.device)] = pooled.float()
        progress.advance(len(rows))
    return out


def encode_windows(
    model: Gecko,
    texts: Sequence[str],
    *,
    batch_tokens: int | None,
    progress: Progress | bool,
    truncate_dim: int | None,
) -> Iterator[Tensor]:
    """Encode texts window by window.

    Args:
        model: the embedder.
        texts: texts as they are.
        batch_tokens: tokens of a forward pass, padding included; by default what suits the device.
        progress: see :func:`gecko_core.io.make_progress`.
        truncate_dim: leading components to keep.

    Yields:
        Unit vectors (up to WINDOW, dim) of consecutive texts, fp32, on the model's device.

    Raises:
        ConfigError: an option that cannot be used.
        ModelError: an embedding is not finite, or has no direction; names the row.
    """
    if batch_tokens is not None and not is_whole(batch_tokens, 1, _LARGEST_BATCH):
        raise ConfigError(f"batch_tokens must be at least 1 and at most {_LARGEST_BATCH:,}, not {batch_tokens!r}")
    check_truncate_dim(truncate_dim, model.dim)
    budget = batch_tokens or default_batch_tokens(model.device)
    bar = make_progress(progress)
    bar.start("encoding", len(texts), unit="texts")
    # Not model.eval() and model.train(): each takes a tenth of the time of a short query.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode(), probed_autocast(model):
            for start in range(0, len(texts), WINDOW):
                window = texts[start : start + WINDOW]
                vectors = encode_window(model, window, budget, bar)
                units = normalize(vectors[:, :truncate_dim], dim=-1)
                _check_units(units, vectors, window, start)
                yield units
    finally:
        for module in training:
            module.training = True
        bar.finish()


def _check_units(units: Tensor, vectors: Tensor, texts: Sequence[str], first: int) -> None:
    """A vector of length one for every text; zeros for one without a word, whose tokens may have no direction."""
    faulty = ~(torch.linalg.vector_norm(units, dim=1) > _SHORTEST)  # NaN, too
    for row in faulty.nonzero().flatten().tolist() if bool(faulty.any()) else ():
        if not bool(torch.isfinite(vectors[row]).all()):
            raise ModelError(
                f"row {first + row}: the embedding is not finite; if the model runs in float16, take bfloat16 or "
                "float32"
            )
        if texts[row].strip():
            raise ModelError(
                f"row {first + row}: the embedding is zero, or too long for float32: the model's weights are broken; "
                "fetch the model again"
            )
