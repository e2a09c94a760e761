"""The backward pass that the losses share: strips of coefficients, and the products that turn them into gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from gecko_kernels.triton import contrastive_kernels as kernels
from gecko_kernels.triton.norms import finished
from gecko_kernels.triton.tiles import Tile

# A strip's coefficients may take this many bytes, or as many as two float32 copies of the keys where that is more.
STRIP_BYTES = 1 << 28


def precision(vectors: Tensor) -> str:
    """Return the precision of products: float32 as PyTorch's setting says, bfloat16 upcast where interpreted."""
    if vectors.dtype == torch.bfloat16 and not vectors.is_cuda:
        return "upcast"
    return "tf32" if vectors.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else "ieee"


def on_device(tensor: Tensor) -> AbstractContextManager[None]:
    """Make the tensor's device current: Triton launches there."""
    return torch.cuda.device_of(tensor)


@dataclass
class Gradient:
    """Gradient sums of one matrix: coefficient * other side, and r_m = sum of g * logit."""

    sums: Tensor  # (N, largest dim) float32
    pull: Tensor  # (N, M) float32

    @classmethod
    def zeros(cls, like: Tensor, dims: Sequence[int]) -> Gradient:
        """Start at zero for the rows of ``like``, (..., D)."""
        count = like.numel() // like.shape[-1]
        sums = torch.zeros((count, dims[-1]), dtype=torch.float32, device=like.device)
        return cls(sums, torch.zeros((count, len(dims)), dtype=torch.float32, device=like.device))

    def finish(self, vectors: Tensor, inverse: Tensor, dims: Sequence[int]) -> Tensor:
        """Return dL/dx_c = sums_c - x_c sum_{m covers c} r_m / a_m^2, in the dtype and width of x."""
        return finished(self.sums, self.pull, vectors, inverse, dims)


def strip_rows(columns: int, width: int, prefixes: int, element: int, tile: Tile) -> int:
    """Return the rows of a strip: a multiple of the tile whose coefficients fit the budget, O(C D) bytes."""
    budget = max(STRIP_BYTES, 8 * columns * width)
    return max(1, budget // (prefixes * columns * element) // tile.rows) * tile.rows


def plane_widths(dims: Sequence[int]) -> list[slice]:
    """Return the columns that each plane of coefficients is multiplied with (``contrastive_kernels.store_planes``).

    The prefixes in pairs from the largest on: what the larger adds to the smaller for the plane of the larger, and the
    smaller's whole width for that of the smaller, which is the sum of both.
    """
    starts = (0, *dims[:-1])
    largest = len(dims) - 1
    return [slice(start if (largest - m) % 2 == 0 else 0, dims[m]) for m, start in enumerate(starts)]


@dataclass
class Strip:
    """What a coefficient kernel fills for some rows and all columns."""

    first: int
    height: int
    grid: tuple[int, int]  # row tiles, column tiles
    coefficients: Tensor  # (M, height, C): a plane for each entry of ``plane_widths``
    row_pulls: Tensor  # (M, column tiles, height) float32: partial sums of g * cosine
    column_pulls: Tensor | None  # (M, row tiles, C) float32; None where a strip holds both roles


def gradient_strips(
    queries: Tensor,  # (B, D)
    keys: Tensor,  # (C, D)
    dims: Sequence[int],
    tile: Tile,
    product_tile: Tile,
    row: Gradient,
    columns: Gradient | None,
) -> Iterator[Strip]:
    """Yield the strips of the queries, each to be filled before the next is asked for, and add what they hold.

    Args:
        queries: rows.
        keys: columns, of the dtype of the queries.
        dims: Matryoshka prefixes, ascending.
        tile: of the kernel that fills the strips.
        product_tile: of the products.
        row: added to.
        columns: added to; None where the keys are the queries and a strip holds both roles.
    """
    # float16 cannot hold small coefficients: they stay float32 and are multiplied as tf32, which has as many digits.
    half = queries.dtype == torch.bfloat16
    rows, count, prefixes = len(queries), len(keys), len(dims)
    strip = min(strip_rows(count, queries.shape[1], prefixes, 2 if half else 4, tile), rows)
    new = {"device": keys.device, "dtype": torch.float32}
    for first in range(0, rows, strip):
        height = min(strip, rows - first)
        grid = triton.cdiv(height, tile.rows), triton.cdiv(count, tile.columns)
        filled = Strip(
            first,
            height,
            grid,
            torch.empty((prefixes, height, count), device=keys.device, dtype=torch.bfloat16 if half else torch.float32),
            torch.empty((prefixes, grid[1], height), **new),
            None if columns is None else torch.empty((prefixes, grid[0], count), **new),
        )
        yield filled
        part = slice(first, first + height)
        row.pull[part] += filled.row_pulls.sum(1).T
        if columns is not None and filled.column_pulls is not None:
            columns.pull += filled.column_pulls.sum(1).T
        for coefficients, width in zip(filled.coefficients, plane_widths(dims), strict=True):
            multiply(product_tile, coefficients, keys, row.sums[part], width, transposed=False)
            if columns is not None:
                multiply(product_tile, coefficients, queries[part], columns.sums, width, transposed=True)


def sums_in_library(coefficients: Tensor, vectors: Tensor) -> bool:
    """Whether ``torch.addmm`` adds products of these to float32: bfloat16 does since PyTorch 2.8."""
    if not vectors.is_cuda or coefficients.dtype != vectors.dtype:
        return False
    return vectors.dtype == torch.float32 or "dtype_out" in torch.ops.aten.addmm.overloads()


def multiply(
    tile: Tile, coefficients: Tensor, vectors: Tensor, out: Tensor, segment: slice, *, transposed: bool
) -> None:
    """Compute ``out[:, segment] += coefficients (transposed) @ vectors[:, segment]``.

    By the library where it can add to float32 (``sums_in_library``), in the precision that PyTorch's setting for
    float32 products says; else by this package's kernel.
    """
    if sums_in_library(coefficients, vectors):
        left = coefficients.T if transposed else coefficients
        into = out[:, segment]
        wider = {} if into.dtype == left.dtype else {"out_dtype": into.dtype}
        torch.addmm(into, left, vectors[:, segment], out=into, **wider)
        return
    wide = coefficients.dtype == torch.float32
    # float32 coefficients of float16 inputs are multiplied as tf32, which has float16's digits and float32's range.
    how = "tf32" if vectors.dtype == torch.float16 else precision(vectors)
    grid = (triton.cdiv(segment.stop - segment.start, tile.columns), triton.cdiv(len(out), tile.rows))
    with on_device(out):
        kernels.product_kernel[grid](
            coefficients, vectors, out, len(out), len(vectors), coefficients.shape[1], WIDTH=vectors.shape[1],
            OUT_WIDTH=out.shape[1], LO=segment.start, HI=segment.stop, TRANSPOSED=transposed, BLOCK_M=tile.rows,
            BLOCK_N=tile.columns, BLOCK_K=max(16, tile.depth // 2) if wide else tile.depth,
            PRECISION=how, num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip
