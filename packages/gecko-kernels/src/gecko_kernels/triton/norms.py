"""What a row needs before and after the products, one kernel each: the norms of its prefixes, and its gradient.

As PyTorch operations these are a dozen launches for every matrix, which for small batches take longer than the loss.
"""

# No `from __future__ import annotations` here: Triton reads the annotations.
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from gecko_kernels.reference import ZERO_NORM
from gecko_kernels.triton.contrastive_kernels import TINY

BLOCK_ROWS, BLOCK_COLUMNS = 8, 256
SMALLEST = tl.constexpr(ZERO_NORM * ZERO_NORM)  # a square no larger than this is that of a zero vector


@triton.jit
def norms_kernel(
    vectors,  # (N, WIDTH)
    out,  # (N, M) float32
    rows,
    WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write 1 / norm of every prefix, TINY for a zero vector. Grid: (blocks of rows,)."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < rows
    square = tl.zeros((BLOCK_R,), dtype=tl.float32)
    for m in tl.static_range(M):
        for start in range(STARTS[m], DIMS[m], BLOCK_D):
            column = start + tl.arange(0, BLOCK_D)
            read = real[:, None] & (column < DIMS[m])[None, :]
            part = tl.load(vectors + row[:, None] * WIDTH + column[None, :], mask=read, other=0.0).to(tl.float32)
            square += tl.sum(part * part, 1)
        nonzero = square > SMALLEST
        inverse = tl.where(nonzero, 1.0 / tl.sqrt(tl.where(nonzero, square, 1.0)), TINY)
        tl.store(out + row * M + m, tl.maximum(inverse, TINY), mask=real)


@triton.jit
def finish_kernel(
    sums,  # (N, OUT_WIDTH) float32: coefficient * other side
    pulls,  # (N, M) float32: r_m, sums of g * cosine
    inverse,  # (N, M) float32: 1 / norm of every prefix
    vectors,  # (N, WIDTH)
    out,  # (N, WIDTH)
    rows,
    WIDTH: tl.constexpr, OUT_WIDTH: tl.constexpr, STARTS: tl.constexpr, DIMS: tl.constexpr, M: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Write sums_c - x_c sum_{m covers c} r_m / a_m^2; zero for a zero vector and beyond the last prefix."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < rows
    last = tl.load(inverse + row * M + M - 1, mask=real, other=0.0)
    counts = real & (last > TINY)
    along = tl.zeros((BLOCK_R,), dtype=tl.float32)
    for m in tl.static_range(M - 1, -1, -1):
        by = tl.load(inverse + row * M + m, mask=counts, other=0.0)
        along += tl.load(pulls + row * M + m, mask=counts, other=0.0) * by * by
        for start in range(STARTS[m], DIMS[m], BLOCK_D):
            column = start + tl.arange(0, BLOCK_D)
            within = (column < DIMS[m])[None, :]
            read = counts[:, None] & within
            added = tl.load(sums + row[:, None] * OUT_WIDTH + column[None, :], mask=read, other=0.0)
            at = row[:, None] * WIDTH + column[None, :]
            value = added - tl.load(vectors + at, mask=read, other=0.0).to(tl.float32) * along[:, None]
            tl.store(out + at, value.to(out.dtype.element_ty), mask=real[:, None] & within)
    for start in range(DIMS[M - 1], WIDTH, BLOCK_D):
        column = start + tl.arange(0, BLOCK_D)
        nothing = tl.zeros((BLOCK_R, BLOCK_D), dtype=tl.float32).to(out.dtype.element_ty)
        write = real[:, None] & (column < WIDTH)[None, :]
        tl.store(out + row[:, None] * WIDTH + column[None, :], nothing, mask=write)


def _constants(dims: Sequence[int], width: int) -> dict[str, object]:
    return {
        "WIDTH": width, "STARTS": (0, *dims[:-1]), "DIMS": tuple(dims), "M": len(dims), "BLOCK_R": BLOCK_ROWS,
        "BLOCK_D": BLOCK_COLUMNS, "num_warps": 4,
    }  # fmt: skip


def inverse_norms(vectors: Tensor, dims: Sequence[int]) -> Tensor:
    """(..., D), contiguous -> (..., M) float32: 1 / norm of every prefix, a tiny number for a zero vector."""
    out = torch.empty((*vectors.shape[:-1], len(dims)), dtype=torch.float32, device=vectors.device)
    rows = out.numel() // len(dims)
    if rows:
        with torch.cuda.device_of(vectors):
            norms_kernel[(triton.cdiv(rows, BLOCK_ROWS),)](vectors, out, rows, **_constants(dims, vectors.shape[-1]))
    return out


def finished(sums: Tensor, pulls: Tensor, vectors: Tensor, inverse: Tensor, dims: Sequence[int]) -> Tensor:
    """(N, dims[-1]), (N, M), (N, D), (N, M) -> the gradient, (N, D) in the dtype of ``vectors``."""
    out = torch.empty_like(vectors)
    if len(vectors):
        with torch.cuda.device_of(vectors):
            finish_kernel[(triton.cdiv(len(vectors), BLOCK_ROWS),)](
                sums, pulls, inverse, vectors, out, len(vectors), OUT_WIDTH=sums.shape[1],
                **_constants(dims, vectors.shape[1]),
            )  # fmt: skip
    return out
