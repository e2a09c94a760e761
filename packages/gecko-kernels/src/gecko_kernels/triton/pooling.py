"""Mean pooling in Triton: one program per sequence and block of columns.

A padded sequence is read from its first token that counts to its last; of what lies between, masked tokens are read
and left out.

Where the result is normalised or prefix norms are wanted a program holds its sequence's whole mean, and both are done
before it is written: nothing of size (B, D) is read again. The backward pass is a broadcast: every program writes its
own tokens, so nothing is added twice and no atomics are needed.
"""

# No `from __future__ import annotations` here: Triton reads the annotations.
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from gecko_kernels.reference import ZERO_NORM

# Tokens and columns of a step: 16-byte loads of 64 columns in half precision, several rows in flight.
BLOCK_TOKENS, BLOCK_COLUMNS = 16, 128
WARPS, STAGES = 4, 3
MASK_BLOCK = 512  # tokens of a mask that are read at once
STEP = 4096  # elements of a step where a program holds the whole width: 32 registers of each of its 128 threads
SMALLEST = tl.constexpr(ZERO_NORM)  # a mean no longer than this is zero, as in the reference


@triton.jit
def bounds_of(valid, length, BLOCK_V: tl.constexpr):
    """Return the first token of a sequence that counts, the one behind the last, and how many count."""
    first = tl.full((), 0, tl.int64) + length
    last = tl.full((), 0, tl.int64)
    count = tl.full((), 0, tl.int64)
    for begin in range(0, length, BLOCK_V):
        place = begin + tl.arange(0, BLOCK_V)
        counted = tl.load(valid + place, mask=place < length, other=0) != 0
        first = tl.minimum(first, tl.min(tl.where(counted, place, length), 0).to(tl.int64))
        last = tl.maximum(last, tl.max(tl.where(counted, place + 1, 0), 0).to(tl.int64))
        count += tl.sum(counted.to(tl.int64), 0)
    return first, last, count


# The longest text of a batch is another one in every batch: a kernel for each kind of length (a multiple of 16 or not)
# and each mask block would be compiled in the midst of training.
@triton.jit(do_not_specialize=["length"])
def mean_kernel(
    hidden,  # (tokens, width)
    valid,  # padded: (B, L) bytes
    starts,  # packed: (B,)
    ends,  # packed: (B,)
    out,  # (B, width)
    inverse,  # (B,) float32: 1 / norm of the mean, 0 for a zero mean; written with NORMALIZE
    norms,  # (B, M) float32: norms of the mean's prefixes
    length,
    width,
    PACKED: tl.constexpr,
    NORMALIZE: tl.constexpr,
    DIMS: tl.constexpr,
    M: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Average the valid tokens of one sequence over one block of columns. Grid: (B, column blocks).

    With NORMALIZE or M > 0 one block covers the width.
    """
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < width
    total = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    if PACKED:
        first = tl.load(starts + sequence)
        last = tl.load(ends + sequence)
        count = last - first
    else:
        first, last, count = bounds_of(valid + sequence * length, length, BLOCK_V)
        first += sequence * length
        last += sequence * length
    for begin in tl.range(first, last, BLOCK_T, num_stages=STAGES):
        token = begin + tl.arange(0, BLOCK_T)
        own = token < last
        read = own[:, None] & inside[None, :]
        part = tl.load(hidden + token[:, None] * width + column[None, :], mask=read, other=0.0).to(tl.float32)
        if not PACKED:
            counted = tl.load(valid + token, mask=own, other=0) != 0
            part = tl.where(counted[:, None], part, 0.0)  # not multiplied: what is masked may be NaN
        total += part
    mean = tl.sum(total, 0) / tl.maximum(count, 1).to(tl.float32)
    for m in tl.static_range(M):
        prefix = tl.where(column < DIMS[m], mean, 0.0)
        largest = tl.max(tl.abs(prefix), 0)  # squares of large half-precision means stay finite
        scale = tl.where(largest > 0.0, largest, 1.0)
        prefix = prefix / scale
        tl.store(norms + sequence * M + m, scale * tl.sqrt(tl.sum(prefix * prefix, 0)))
    if NORMALIZE:
        largest = tl.max(tl.abs(mean), 0)
        scale = tl.where(largest > 0.0, largest, 1.0)
        scaled = mean / scale
        norm = scale * tl.sqrt(tl.sum(scaled * scaled, 0))
        by = tl.where(norm > SMALLEST, 1.0 / tl.where(norm > SMALLEST, norm, 1.0), 0.0)
        tl.store(inverse + sequence, by)
        mean = mean * by
    tl.store(out + sequence * width + column, mean.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["length"])
def spread_kernel(
    vectors,  # (B, width)
    valid,
    starts,
    ends,
    out,  # (tokens, width)
    length,
    width,
    PACKED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Write a sequence's vector to its valid tokens, zero to padding. Grid: (B, column blocks)."""
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < width
    vector = tl.load(vectors + sequence * width + column, mask=inside, other=0.0)
    if PACKED:
        first = tl.load(starts + sequence)
        last = tl.load(ends + sequence)
    else:
        first = sequence * length
        last = first + length
    for begin in range(first, last, BLOCK_T):
        token = begin + tl.arange(0, BLOCK_T)
        own = token < last
        value = tl.broadcast_to(vector[None, :], (BLOCK_T, BLOCK_D))
        if not PACKED:
            counted = tl.load(valid + token, mask=own, other=0) != 0
            value = tl.where(counted[:, None], value, 0.0)
        to = out + token[:, None] * width + column[None, :]
        tl.store(to, value.to(out.dtype.element_ty), mask=own[:, None] & inside[None, :])


def _grid(sequences: int, width: int) -> tuple[int, int]:
    return sequences, triton.cdiv(width, BLOCK_COLUMNS)


def _mean(
    hidden: Tensor,  # (tokens, width) or (B, L, width), contiguous
    valid: Tensor,
    starts: Tensor,
    ends: Tensor,
    sequences: int,
    length: int,
    normalize: bool,
    dims: Sequence[int],
    packed: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    width = hidden.shape[-1]
    out = torch.empty((sequences, width), dtype=hidden.dtype, device=hidden.device)
    inverse = torch.ones(sequences, dtype=torch.float32, device=hidden.device)
    norms = torch.empty((sequences, len(dims)), dtype=torch.float32, device=hidden.device)
    whole = normalize or len(dims) > 0
    columns = triton.next_power_of_2(width) if whole else BLOCK_COLUMNS
    with torch.cuda.device_of(hidden):
        mean_kernel[(sequences, triton.cdiv(width, columns))](
            hidden, valid, starts, ends, out, inverse, norms, length, width, PACKED=packed, NORMALIZE=normalize,
            DIMS=tuple(dims) or (0,), M=len(dims), BLOCK_T=max(1, STEP // columns) if whole else BLOCK_TOKENS,
            BLOCK_D=columns, BLOCK_V=MASK_BLOCK, STAGES=STAGES, num_warps=WARPS,
        )  # fmt: skip
    return out, inverse, norms


def masked_mean(hidden: Tensor, valid: Tensor, normalize: bool, dims: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """(B, L, D), (B, L) bool -> (B, D) in hidden's dtype, (B,) 1 / norm (1 unless ``normalize``), (B, len(dims))."""
    rows, length, _ = hidden.shape
    hidden, valid = hidden.contiguous(), valid.contiguous().view(torch.uint8)
    return _mean(hidden, valid, valid, valid, rows, length, normalize, dims, packed=False)


def packed_mean(
    hidden: Tensor, starts: Tensor, ends: Tensor, normalize: bool, dims: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """``masked_mean`` of (T, D) with (B,), (B,) int64: where each sequence starts and ends."""
    hidden, starts, ends = hidden.contiguous(), starts.contiguous(), ends.contiguous()
    return _mean(hidden, starts, starts, ends, len(starts), 0, normalize, dims, packed=True)


def masked_spread(vectors: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, D), (B, L) bool -> (B, L, D)."""
    (rows, length), width = valid.shape, vectors.shape[1]
    vectors, valid = vectors.contiguous(), valid.contiguous().view(torch.uint8)
    out = torch.empty((rows, length, width), dtype=dtype, device=vectors.device)
    with torch.cuda.device_of(vectors):
        spread_kernel[_grid(rows, width)](
            vectors, valid, valid, valid, out, length, width, PACKED=False, BLOCK_T=BLOCK_TOKENS, BLOCK_D=BLOCK_COLUMNS
        )
    return out


def packed_spread(vectors: Tensor, starts: Tensor, ends: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    """(B, D), (B,), (B,) -> (T, D); tokens outside every sequence get zero."""
    width = vectors.shape[1]
    vectors, starts, ends = vectors.contiguous(), starts.contiguous(), ends.contiguous()
    out = torch.zeros((tokens, width), dtype=dtype, device=vectors.device)
    with torch.cuda.device_of(vectors):
        spread_kernel[_grid(len(starts), width)](
            vectors, starts, starts, ends, out, 0, width, PACKED=True, BLOCK_T=BLOCK_TOKENS, BLOCK_D=BLOCK_COLUMNS
        )
    return out
