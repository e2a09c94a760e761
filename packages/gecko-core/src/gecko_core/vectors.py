"""Vectors as callers give them, checked one way for search, similarities and ``truncate``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gecko_core.encode.quantization import check_floats, check_truncate_dim
from gecko_core.errors import ConfigError, DataError

__all__ = ["checked_matrix", "unit_vectors"]

# Below this length the squares of components leave fp32's range, and `normalize` divides by 1e-12 at least.
_SHORT = 1e-9


def checked_matrix(
    vectors: Any,  # (n, D)
    what: str,
    *,
    first: int = 0,
    device: str | torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Return vectors in fp32, and their Euclidean norms.

    Args:
        vectors: a tensor, or anything that numpy makes an array of.
        what: the word for them in messages.
        first: number of the first row, for messages.
        device: where to; where they are by default.

    Returns:
        (n, D) float32 and (n,) float32, without gradients.

    Raises:
        ConfigError: no floats, or other than two dimensions.
        DataError: a row that is not finite, or whose norm is above fp32's range; its number is named.
    """
    given = _tensor(_floats(vectors, what)).detach()
    if given.ndim != 2:
        raise ConfigError(f"{what} must have two dimensions, (n, D), not {tuple(given.shape)}")
    matrix = given.to(device=device, dtype=torch.float32)
    return matrix, _lengths(matrix, given, what, first)


def unit_vectors(
    vectors: Any,  # (..., D)
    what: str,
    dim: int | None = None,
) -> Tensor:
    """Return vectors, or their leading components, scaled to unit length; vectors of zeros stay.

    Args:
        vectors: a tensor, or anything that numpy makes an array of.
        what: the word for them in messages.
        dim: how many leading components to keep; all by default.

    Returns:
        (..., dim) float32, with gradients where ``vectors`` has them.

    Raises:
        ConfigError: no floats, no dimension, or a ``dim`` that they do not have.
        DataError: as of :func:`checked_matrix`, of the components that are kept.
    """
    array = _floats(vectors, what)
    if not array.ndim:
        raise ConfigError(f"{what}: a single number is no vector; give (D,) or (n, D)")
    check_truncate_dim(dim, array.shape[-1])
    given = _tensor(array[..., :dim])
    given = given if given.dtype == torch.float64 else given.float()
    rows = given.flatten(0, -2) if given.ndim > 1 else given[None]
    lengths = _lengths(rows.detach().float(), rows.detach(), what, 0)
    short = lengths < _SHORT
    if rows.shape[1] and bool(short.any()):
        largest = rows.detach().abs().amax(dim=1)
        rows = rows / torch.where(short & (largest > 0), largest, 1.0)[:, None]
    return normalize(rows.float(), dim=-1).reshape(given.shape)


def _floats(vectors: Any, what: str) -> np.ndarray | Tensor:
    if isinstance(vectors, Tensor):
        return check_floats(vectors, what)
    try:
        if isinstance(vectors, list | tuple) and vectors and all(isinstance(row, Tensor) for row in vectors):
            return check_floats(torch.stack(tuple(vectors)), what)
        array = np.asarray(vectors)
    except (ValueError, RuntimeError):
        raise ConfigError(f"{what}: the rows are not of one length; give (n, D)") from None
    return check_floats(array, what)


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    """Return a tensor; of an array in fp32, or in fp64 where it is wider than fp32."""
    if isinstance(array, Tensor):
        return array
    # A copy where it is a memory map, runs backwards or is of the other byte order: torch takes none of these.
    wanted = np.float64 if array.dtype.itemsize > 4 else np.float32
    required = np.require(array, dtype=wanted, requirements=["C", "W"])
    # One row counts as contiguous even where it is of an array that runs backwards.
    return torch.from_numpy(required.copy() if min(required.strides, default=0) < 0 else required)


def _lengths(matrix: Tensor, given: Tensor, what: str, first: int) -> Tensor:  # (n, D) -> (n,)
    """Euclidean norms of ``given`` in fp32; they tell whether it is finite, without another pass over it."""
    lengths = torch.linalg.vector_norm(matrix, dim=1)
    unbounded = ~torch.isfinite(lengths)
    if bool(unbounded.any()):
        row = int(unbounded.nonzero()[0])
        if bool(torch.isfinite(given[row]).all()):
            raise DataError(f"{what}: row {first + row} is too long for float32; scale the vectors down")
        raise DataError(f"{what}: row {first + row} is not finite; encode it again or drop it")
    return lengths
