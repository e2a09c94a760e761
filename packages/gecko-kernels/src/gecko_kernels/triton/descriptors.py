"""Descriptors of matrices that Hopper and later GPUs copy in whole tiles (the tensor memory accelerator)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gecko_kernels.triton.tiles import Tile, architecture_of

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except ImportError:  # Triton before 3.4
    TensorDescriptor = None

HOPPER = 90
#: Prefixes are whole numbers of these columns, and so of a tile's depth: a copy does not stop inside of one.
STEP = 64
#: Bytes that addresses and rows of what is copied must be multiples of (CUDA driver API, cuTensorMapEncodeTiled).
ALIGNMENT = 16


def can_describe(matrices: Sequence[Tensor | None], dims: Sequence[int]) -> bool:
    """Whether kernels can read these matrices by descriptor.

    Args:
        matrices: (., D), contiguous; None stands for one that is not there.
        dims: Matryoshka prefixes.
    """
    return all(dim % STEP == 0 for dim in dims) and all(map(_can_be_described, matrices))


def _can_be_described(matrix: Tensor | None) -> bool:
    if matrix is None:
        return True
    if TensorDescriptor is None or (architecture_of(matrix.device) or 0) < HOPPER or not matrix.numel():
        return False
    whole = matrix.data_ptr() % ALIGNMENT == 0 and matrix.shape[-1] * matrix.element_size() % ALIGNMENT == 0
    return whole and matrix.dtype in (torch.bfloat16, torch.float16)


def describe(matrices: Sequence[Tensor | None], tile: Tile, wanted: bool) -> list[Any]:
    """Return the descriptors by which a kernel reads its rows and its columns; None for each where not wanted.

    Args:
        matrices: (., D), contiguous: that of the rows, then those of columns; None stands for one that is not there.
        tile: of the kernel.
        wanted: ``can_describe`` of them.

    Raises:
        ValueError: the tile's depth does not divide ``STEP``.
    """
    if not wanted:
        return [None] * len(matrices)
    if STEP % tile.depth:
        raise ValueError(f"a tile read by descriptor needs a depth that divides {STEP}, found {tile.depth}")
    heights = [tile.rows] + [tile.columns] * (len(matrices) - 1)
    return [
        None if matrix is None else TensorDescriptor.from_tensor(matrix, [height, tile.depth])
        for matrix, height in zip(matrices, heights, strict=True)
    ]
