"""Encoding many texts: token-budget batches sorted by length, order restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gecko_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gecko_core.model import Gecko


def encode_texts(
    model: Gecko,
    texts: Sequence[str],
    *,
    batch_tokens: int = 8192,
    progress: bool = False,
    truncate_dim: int | None = None,
    output: str = "numpy",
) -> Any:
    """(n,) texts as they are -> (n, dim) float32, L2-normalised; order as given."""
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {row} is {type(text).__name__}, not a string; cure: drop or fill that row")
    dim = truncate_dim or model.dim
    if not 0 < dim <= model.dims[0]:
        raise ConfigError(f"truncate_dim={dim}: this model has {model.dims[0]} dimensions")
    ids = model.tokenize(texts)
    result = torch.empty((len(texts), dim), dtype=torch.float32)
    was_training = model.training
    model.eval()
    bar = _bar(len(texts)) if progress else None
    with torch.inference_mode():
        for rows in batches([len(row) for row in ids], batch_tokens):
            pooled = model(**model.collate([ids[row] for row in rows]))[:, :dim].float()
            result[torch.tensor(rows)] = torch.nn.functional.normalize(pooled, dim=1).cpu()
            if bar is not None:
                bar.update(len(rows))
    if bar is not None:
        bar.close()
    model.train(was_training)
    return result if output == "torch" else np.asarray(result.numpy())


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows in order of falling length, each batch at most `batch_tokens` padded tokens."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _bar(total: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="text", desc="encode")
