"""Mean pooling over valid tokens, padded or packed: the public operations, their PyTorch path and their autograd.

Padding is never read, so it may hold anything, NaN included.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

from gecko_kernels._arguments import FLOATING, check_flag, check_tensors, shape_of
from gecko_kernels._backend import choose_backend
from gecko_kernels._operators import operator, refuse_second_derivative
from gecko_kernels.reference import ZERO_NORM, reference_packed_pool, reference_pool, wide


def masked_mean_pool(
    hidden: Tensor,  # (B, L, D)
    mask: Tensor,  # (B, L) bool, integer or floating; non-zero: the token counts
    *,
    normalize: bool = False,
    skip: int | Tensor | None = None,
    prefix_norms: Sequence[int] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Average each row's valid tokens; sums are accumulated in float32.

    Args:
        hidden: token outputs; float16, bfloat16, float32 or float64. Gradient flows to it.
        mask: the attention mask; any layout of padding, left, right or in between.
        normalize: L2-normalise the mean (a zero mean stays zero).
        skip: number of valid tokens to skip at the start of each row (a prompt), one number or (B,) integers.
        prefix_norms: Matryoshka dims; also return the norms of these prefixes of the mean before normalisation.

    Returns:
        (B, D) in the dtype of ``hidden``; a row without valid tokens is zero and passes no gradient. With
        ``prefix_norms`` a pair, the second (B, len(prefix_norms)), float32, without gradient.

    Raises:
        ValueError: a shape or a dim does not fit.
        TypeError: a dtype does not fit.
    """
    check_tensors(required=("hidden", "mask"), hidden=hidden, mask=mask)
    if hidden.dim() != 3 or mask.shape != hidden.shape[:2]:
        raise ValueError(
            f"masked_mean_pool: expected hidden (B, L, D) and mask (B, L), "
            f"found {shape_of(hidden)} and {shape_of(mask)}"
        )
    valid = mask.bool()
    if skip is not None:
        valid = valid & (valid.cumsum(1) > _skips(skip, len(hidden), hidden.device)[:, None])
    check_flag("normalize", normalize)
    dims = _check_pool(hidden, prefix_norms)
    backend = choose_backend(hidden)
    if backend == "reference":
        pooled = reference_pool(hidden, valid, normalize=normalize)
        return pooled if prefix_norms is None else (pooled, _norms(reference_pool(hidden, valid), dims).detach())
    pooled, _, norms = torch.ops.gecko_kernels.masked_mean(hidden, valid, normalize, dims, backend == "triton")
    return pooled if prefix_norms is None else (pooled, norms.detach())


def packed_mean_pool(
    hidden: Tensor,  # (T, D)
    cu_seqlens: Tensor,  # (B + 1,) integers from 0, never falling, at most T
    *,
    normalize: bool = False,
    skip: int | Tensor | None = None,
    prefix_norms: Sequence[int] | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Average the tokens of packed sequences; sequence b is ``hidden[cu_seqlens[b] : cu_seqlens[b + 1]]``.

    The values of ``cu_seqlens`` and ``skip`` are checked on CPU only: on a GPU the check would wait for the device.

    Args:
        hidden: token outputs of all sequences, as in ``masked_mean_pool``.
        cu_seqlens: where each sequence starts, and where the last one ends.
        normalize: as in ``masked_mean_pool``.
        skip: as in ``masked_mean_pool``.
        prefix_norms: as in ``masked_mean_pool``.

    Returns:
        As ``masked_mean_pool``; an empty sequence is zero.

    Raises:
        ValueError: a shape, a dim or an entry of ``cu_seqlens`` or ``skip`` does not fit.
        TypeError: a dtype does not fit.
    """
    check_tensors(required=("hidden", "cu_seqlens"), hidden=hidden, cu_seqlens=cu_seqlens)
    if hidden.dim() != 2 or cu_seqlens.dim() != 1 or len(cu_seqlens) < 1:
        raise ValueError(
            f"packed_mean_pool: expected hidden (T, D) and cu_seqlens (B + 1,), "
            f"found {shape_of(hidden)} and {shape_of(cu_seqlens)}"
        )
    if cu_seqlens.is_floating_point() or cu_seqlens.dtype == torch.bool:
        raise TypeError(f"cu_seqlens: expected integers, found {cu_seqlens.dtype}")
    if not torch.compiler.is_compiling() and cu_seqlens.device.type == "cpu":
        bounds = cu_seqlens.tolist()
        if bounds[0] != 0 or bounds != sorted(bounds) or bounds[-1] > len(hidden):
            raise ValueError(f"cu_seqlens: expected 0 = first <= ... <= last <= {len(hidden)}, found {_short(bounds)}")
    starts, ends = cu_seqlens[:-1].to(torch.int64), cu_seqlens[1:].to(torch.int64)
    if skip is not None:
        starts = starts + torch.minimum(_skips(skip, len(starts), hidden.device), ends - starts)
    check_flag("normalize", normalize)
    dims = _check_pool(hidden, prefix_norms)
    backend = choose_backend(hidden)
    if backend == "reference":
        pooled = _reference_spans(hidden, starts, ends, normalize)
        return (
            pooled if prefix_norms is None else (pooled, _norms(_reference_spans(hidden, starts, ends), dims).detach())
        )
    pooled, _, norms = torch.ops.gecko_kernels.packed_mean(hidden, starts, ends, normalize, dims, backend == "triton")
    return pooled if prefix_norms is None else (pooled, norms.detach())


def _reference_spans(hidden: Tensor, starts: Tensor, ends: Tensor, normalize: bool = False) -> Tensor:
    spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
    bounds = torch.tensor([0, *(end - start for start, end in spans)]).cumsum(0)
    kept = [hidden[start:end] for start, end in spans]
    return reference_packed_pool(torch.cat([hidden[:0], *kept]), bounds, normalize=normalize)


def _short(values: list[int]) -> str:
    return str(values) if len(values) <= 8 else f"[{', '.join(map(str, values[:4]))}, ..., {values[-1]}]"


def _skips(skip: int | Tensor, rows: int, device: torch.device) -> Tensor:
    if not isinstance(skip, Tensor):
        try:
            number = index(skip)
        except TypeError:
            raise TypeError(f"skip: expected a number or a tensor of integers, found {type(skip).__name__}") from None
        if number < 0:
            raise ValueError(f"skip: expected a number >= 0, found {skip}")
        return torch.full((rows,), min(number, torch.iinfo(torch.int64).max), device=device)
    if skip.shape != (rows,) or skip.is_floating_point():
        raise ValueError(
            f"skip: expected a number or integers of shape ({rows},), found {shape_of(skip)}, {skip.dtype}"
        )
    on_cpu = not torch.compiler.is_compiling() and skip.device.type == "cpu"
    if on_cpu and len(skip) and int(skip.min()) < 0:
        raise ValueError(f"skip: expected numbers >= 0, found {int(skip.min())}")
    return skip.to(device).clamp(min=0)


def _check_pool(hidden: Tensor, dims: Sequence[int] | None) -> list[int]:
    if hidden.dtype not in FLOATING:
        raise TypeError(f"hidden: expected float16, bfloat16, float32 or float64, found {hidden.dtype}")
    chosen = [int(dim) for dim in dims] if dims is not None else []
    if dims is not None and any(dim != whole for dim, whole in zip(dims, chosen, strict=True)):
        raise ValueError(f"prefix_norms: expected whole numbers, found {tuple(dims)}")
    if chosen and (min(chosen) < 1 or max(chosen) > hidden.shape[-1]):
        raise ValueError(f"prefix_norms: expected dims in 1..{hidden.shape[-1]}, found {tuple(chosen)}")
    return chosen


def _norms(mean: Tensor, dims: Sequence[int]) -> Tensor:
    """(B, D) -> (B, len(dims)), float32 or float64."""
    norms = [torch.linalg.vector_norm(mean[:, :dim], dim=1, dtype=wide(mean.dtype)) for dim in dims]
    return torch.stack(norms, 1) if norms else mean.new_empty((len(mean), 0), dtype=wide(mean.dtype))


def _close(mean: Tensor, normalize: bool, dims: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """From the wide mean to (pooled, 1 / norm for the backward pass, prefix norms)."""
    norms = _norms(mean, dims)
    inverse = mean.new_ones(len(mean))
    if normalize:
        length = torch.linalg.vector_norm(mean, dim=1)
        nonzero = length > ZERO_NORM
        inverse = torch.where(nonzero, torch.where(nonzero, length, 1.0).reciprocal(), 0.0)
        mean = mean * inverse[:, None]
    return mean.to(dtype), inverse, norms


def _padded_sum(hidden: Tensor, valid: Tensor) -> Tensor:
    """(B, D) sums in the wide dtype; a row whose valid tokens are contiguous is summed without a copy."""
    summed = hidden.new_zeros((hidden.shape[0], hidden.shape[2]), dtype=wide(hidden.dtype))
    if valid.numel() == 0:
        return summed
    counts, firsts = valid.sum(1).tolist(), valid.int().argmax(1).tolist()
    for row, (count, first) in enumerate(zip(counts, firsts, strict=True)):
        run = valid[row, first : first + count]
        tokens = hidden[row, first : first + count] if bool(run.all()) else hidden[row, valid[row]]
        summed[row] = tokens.sum(0, dtype=summed.dtype)
    return summed


@operator(
    "masked_mean",
    "(Tensor hidden, Tensor valid, bool normalize, int[] dims, bool triton) -> (Tensor, Tensor, Tensor)",
)
def _masked_mean(hidden, valid, normalize, dims, triton):  # type: ignore[no-untyped-def]
    if triton:
        from gecko_kernels.triton.pooling import masked_mean

        return masked_mean(hidden, valid, normalize, dims)
    mean = _padded_sum(hidden, valid) / valid.sum(1, keepdim=True).clamp(min=1)
    return _close(mean, normalize, dims, hidden.dtype)


@operator(
    "packed_mean",
    "(Tensor hidden, Tensor starts, Tensor ends, bool normalize, int[] dims, bool triton) -> (Tensor, Tensor, Tensor)",
)
def _packed_mean(hidden, starts, ends, normalize, dims, triton):  # type: ignore[no-untyped-def]
    if triton:
        from gecko_kernels.triton.pooling import packed_mean

        return packed_mean(hidden, starts, ends, normalize, dims)
    mean = hidden.new_zeros((len(starts), hidden.shape[1]), dtype=wide(hidden.dtype))
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        mean[row] = hidden[start:end].sum(0, dtype=mean.dtype) / max(end - start, 1)
    return _close(mean, normalize, dims, hidden.dtype)


def _fake(hidden: Tensor, rows: int, dims: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    dtype = wide(hidden.dtype)
    return (
        hidden.new_empty((rows, hidden.shape[-1])),
        hidden.new_empty((rows,), dtype=dtype),
        hidden.new_empty((rows, len(dims)), dtype=dtype),
    )


@torch.library.register_fake("gecko_kernels::masked_mean")
def _masked_mean_fake(hidden, valid, normalize, dims, triton):  # type: ignore[no-untyped-def]
    return _fake(hidden, hidden.shape[0], dims)


@torch.library.register_fake("gecko_kernels::packed_mean")
def _packed_mean_fake(hidden, starts, ends, normalize, dims, triton):  # type: ignore[no-untyped-def]
    return _fake(hidden, starts.shape[0], dims)


# The backward pass is a broadcast of one vector per row to its valid tokens, zero elsewhere.
@operator(
    "masked_spread",
    "(Tensor vectors, Tensor valid, ScalarType dtype, bool triton) -> Tensor",
)
def _masked_spread(vectors, valid, dtype, triton):  # type: ignore[no-untyped-def]
    if triton:
        from gecko_kernels.triton.pooling import masked_spread

        return masked_spread(vectors, valid, dtype)
    return torch.where(valid[..., None], vectors.to(dtype)[:, None], 0)


@torch.library.register_fake("gecko_kernels::masked_spread")
def _masked_spread_fake(vectors, valid, dtype, triton):  # type: ignore[no-untyped-def]
    return vectors.new_empty((*valid.shape, vectors.shape[1]), dtype=dtype)


@operator(
    "packed_spread",
    "(Tensor vectors, Tensor starts, Tensor ends, SymInt tokens, ScalarType dtype, bool triton) -> Tensor",
)
def _packed_spread(vectors, starts, ends, tokens, dtype, triton):  # type: ignore[no-untyped-def]
    if triton:
        from gecko_kernels.triton.pooling import packed_spread

        return packed_spread(vectors, starts, ends, tokens, dtype)
    out = vectors.new_zeros((tokens, vectors.shape[1]), dtype=dtype)
    for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        out[start:end] = vectors[row].to(dtype)
    return out


@torch.library.register_fake("gecko_kernels::packed_spread")
def _packed_spread_fake(vectors, starts, ends, tokens, dtype, triton):  # type: ignore[no-untyped-def]
    return vectors.new_empty((tokens, vectors.shape[1]), dtype=dtype)


def _mean_gradient(upstream: Tensor, pooled: Tensor, inverse: Tensor, counts: Tensor, normalize: bool) -> Tensor:
    """dL/d(sum of tokens) from dL/d(pooled), in the wide dtype."""
    gradient = upstream.to(inverse.dtype)
    if normalize:
        pooled = pooled.to(inverse.dtype)
        gradient = (gradient - pooled * (pooled * gradient).sum(1, keepdim=True)) * inverse[:, None]
    return gradient / counts.clamp(min=1)[:, None]


def _masked_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    hidden, valid, ctx.normalize, _, ctx.triton = inputs
    ctx.dtype = hidden.dtype
    ctx.save_for_backward(valid, output[0], output[1])
    ctx.set_materialize_grads(False)


def _masked_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    valid, pooled, inverse = ctx.saved_tensors
    if upstream is None:
        return None, None, None, None, None
    vectors = _mean_gradient(upstream, pooled, inverse, valid.sum(1), ctx.normalize)
    return torch.ops.gecko_kernels.masked_spread(vectors, valid, ctx.dtype, ctx.triton), None, None, None, None


def _packed_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    hidden, starts, ends, ctx.normalize, _, ctx.triton = inputs
    ctx.dtype, ctx.tokens = hidden.dtype, hidden.shape[0]
    ctx.save_for_backward(starts, ends, output[0], output[1])
    ctx.set_materialize_grads(False)


def _packed_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    starts, ends, pooled, inverse = ctx.saved_tensors
    if upstream is None:
        return None, None, None, None, None, None
    vectors = _mean_gradient(upstream, pooled, inverse, ends - starts, ctx.normalize)
    spread = torch.ops.gecko_kernels.packed_spread(vectors, starts, ends, ctx.tokens, ctx.dtype, ctx.triton)
    return spread, None, None, None, None, None


torch.library.register_autograd("gecko_kernels::masked_mean", _masked_backward, setup_context=_masked_setup)
torch.library.register_autograd("gecko_kernels::packed_mean", _packed_backward, setup_context=_packed_setup)
refuse_second_derivative("masked_spread")
refuse_second_derivative("packed_spread")
