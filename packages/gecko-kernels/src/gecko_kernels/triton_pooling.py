"""Mean pooling in Triton: one program per sequence and block of columns; tokens that do not count are never loaded.

The backward pass is a broadcast: every program writes its own tokens, so nothing is added twice and no atomics are
needed. Normalisation and prefix norms work on (B, D), a factor L smaller than what is read here, and stay in PyTorch.
"""

# No `from __future__ import annotations` here: Triton reads the annotations.
import torch
import triton
import triton.language as tl
from torch import Tensor

# Tokens and columns of a step: 16-byte loads of 64 columns in half precision, several rows in flight.
BLOCK_TOKENS, BLOCK_COLUMNS = 16, 256


@triton.jit
def mean_kernel(
    hidden,  # (tokens, width)
    valid,  # padded: (B, L) bytes
    starts,  # packed: (B,)
    ends,  # packed: (B,)
    out,  # (B, width) float32
    length,
    width,
    PACKED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Mean of the valid tokens of one sequence over one block of columns. Grid: (B, column blocks)."""
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = column < width
    total = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    counts = tl.zeros((BLOCK_T,), dtype=tl.int32)
    if PACKED:
        first = tl.load(starts + sequence)
        last = tl.load(ends + sequence)
    else:
        first = sequence * length
        last = first + length
    for begin in range(first, last, BLOCK_T):
        token = begin + tl.arange(0, BLOCK_T)
        counted = token < last
        if not PACKED:
            counted = counted & (tl.load(valid + token, mask=counted, other=0) != 0)
        read = counted[:, None] & inside[None, :]
        total += tl.load(hidden + token[:, None] * width + column[None, :], mask=read, other=0.0).to(tl.float32)
        counts += counted.to(tl.int32)
    count = tl.maximum(tl.sum(counts, 0), 1).to(tl.float32)
    tl.store(out + sequence * width + column, tl.sum(total, 0) / count, mask=inside)


@triton.jit
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
    """Writes a sequence's vector to its valid tokens; zero to the others where padded. Grid: (B, column blocks)."""
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


def masked_mean(hidden: Tensor, valid: Tensor) -> Tensor:
    """(B, L, D), (B, L) bool -> (B, D) float32."""
    rows, length, width = hidden.shape
    hidden, valid = hidden.contiguous(), valid.contiguous().view(torch.uint8)
    out = torch.empty((rows, width), dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        mean_kernel[_grid(rows, width)](
            hidden, valid, valid, valid, out, length, width, PACKED=False, BLOCK_T=BLOCK_TOKENS, BLOCK_D=BLOCK_COLUMNS
        )
    return out


def packed_mean(hidden: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """(T, D), (B,), (B,) int64 -> (B, D) float32."""
    width = hidden.shape[1]
    hidden, starts, ends = hidden.contiguous(), starts.contiguous(), ends.contiguous()
    out = torch.empty((len(starts), width), dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        mean_kernel[_grid(len(starts), width)](
            hidden, starts, starts, ends, out, 0, width, PACKED=True, BLOCK_T=BLOCK_TOKENS, BLOCK_D=BLOCK_COLUMNS
        )
    return out


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
