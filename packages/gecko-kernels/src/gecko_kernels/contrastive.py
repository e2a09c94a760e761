"""The same-tower softmax loss: the public operation, its dispatch and its autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from gecko_kernels._arguments import LossArguments, check_loss, weighted_sum
from gecko_kernels._backend import choose_backend
from gecko_kernels._operators import operator, refuse_second_derivative
from gecko_kernels.cpu.one_pass import ChunkedResult, chunked_loss
from gecko_kernels.reference import left_out_share, reference_loss, wide
from gecko_kernels.triton.tiles import MAX_PREFIXES


@overload
def same_tower_softmax_loss(
    queries: Tensor, positives: Tensor, negatives: Tensor | None = None, *, temperature: float | Tensor,
    dims: Sequence[int] | None = None, dim_weights: Sequence[float] | None = None, same_tower: bool = True,
    negatives_scope: str = "own", query_ids: Tensor | None = None, positive_ids: Tensor | None = None,
    negative_ids: Tensor | None = None, key_queries: Tensor | None = None, column_offset: int = 0,
    hardness: float = 0.0, false_negative_margin: float | None = None, return_left_out: Literal[False] = False,
) -> Tensor: ...  # fmt: skip
@overload
def same_tower_softmax_loss(
    queries: Tensor, positives: Tensor, negatives: Tensor | None = None, *, temperature: float | Tensor,
    dims: Sequence[int] | None = None, dim_weights: Sequence[float] | None = None, same_tower: bool = True,
    negatives_scope: str = "own", query_ids: Tensor | None = None, positive_ids: Tensor | None = None,
    negative_ids: Tensor | None = None, key_queries: Tensor | None = None, column_offset: int = 0,
    hardness: float = 0.0, false_negative_margin: float | None = None, return_left_out: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
def same_tower_softmax_loss(
    queries: Tensor,  # (B, D)
    positives: Tensor,  # (B, D), or (C, D) with C >= B
    negatives: Tensor | None = None,  # (B, D) or (B, H, D); scope "batch": also (N, D) or (N, H, D)
    *,
    temperature: float | Tensor,
    dims: Sequence[int] | None = None,
    dim_weights: Sequence[float] | None = None,
    same_tower: bool = True,
    negatives_scope: str = "own",
    query_ids: Tensor | None = None,  # (B,) or (C,) int64
    positive_ids: Tensor | None = None,  # (B,) or (C,) int64
    negative_ids: Tensor | None = None,  # the shape of negatives without D, int64
    key_queries: Tensor | None = None,  # (C, D)
    column_offset: int = 0,
    hardness: float = 0.0,
    false_negative_margin: float | None = None,
    return_left_out: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Compute Gecko's contrastive loss (Lee et al. 2024, arXiv 2403.20327, section 3.2) on every Matryoshka prefix.

    For row i, temperature t and cosine similarity s, the loss at one prefix is

        -log exp(s(q_i, p_i) / t)
             / ( sum_j exp(s(q_i, p_j) / t) + sum_{j != i} exp(s(q_i, q_j) / t) + sum_h exp(s(q_i, n_ih) / t) )

    averaged over rows; prefixes are re-normalised, weighted and added. Ids exclude pairs: positives of other rows with
    the row's positive id or query id, other queries with the row's query id, and negatives with the row's positive id.
    The row's own positive always counts, so a row whose other terms are all masked has loss and gradient zero. A zero
    vector has similarity zero to everything and gradient zero; so has one whose squared norm is not finite in float32
    (a norm above 1.8e19).

    Args:
        queries: unnormalised embeddings, one per row; float16, bfloat16, float32 or float64.
        positives: the positive of row i is ``positives[column_offset + i]``; all others are in-batch negatives.
        negatives: hard negatives, H per row.
        temperature: a positive number, or a tensor with one element, which then receives a gradient.
        dims: Matryoshka prefixes, e.g. ``(768, 256)``; default: the whole width only.
        dim_weights: one weight per entry of ``dims``; default: all 1.
        same_tower: whether the other queries are negatives (SamToNe, Moiseev et al. 2023).
        negatives_scope: "own": a row sees its own hard negatives only (Gecko); "batch": all hard negatives.
        query_ids: one per column (per row where C = B); rows with equal ids ask the same question.
        positive_ids: one per column; columns with equal ids are the same passage.
        negative_ids: compared with the positive id of the row.
        key_queries: with negatives from other devices: the queries of all devices, row i's own at
            ``column_offset + i``. They receive the gradient of their role as columns only, as ``positives`` do, so that
            a differentiable gather returns it to the device of the row.
        column_offset: where this device's rows begin among the columns.
        hardness: a >= 0; each hard negative is weighted by exp(a * s(q, n)), a constant to the gradient
            (EmbeddingGemma, arXiv 2509.20354, with a = 5).
        false_negative_margin: a cosine difference >= 0; positives of other rows and other queries that are closer to
            the query than its own positive by more than this are likely relevant and left out (Qwen3-Embedding,
            arXiv 2506.05176, with 0.1). Decided at full width, without gradient, for all prefixes; hard negatives
            always count. Runs in PyTorch on every device: the Triton kernels mask by id only.
        return_left_out: also return the share of in-batch pairs that the margin leaves out.

    Returns:
        Scalar, float32 (float64 for float64 inputs). First derivatives only, except with the "reference" backend. With
        ``return_left_out`` a pair, the second a scalar without gradient: the pairs that the margin leaves out and ids
        do not, over B x C pairs with positives and as many with queries where these are negatives.

    Raises:
        ValueError: shapes, devices, dims, ids or the temperature do not fit; the message prints expected and found.
        TypeError: a dtype does not fit.
        RuntimeError: ``GECKO_KERNELS_BACKEND`` asks for what this machine or these inputs cannot run.
    """
    arguments = check_loss(
        queries, positives, negatives, temperature=temperature, dims=dims, dim_weights=dim_weights,
        same_tower=same_tower, negatives_scope=negatives_scope, query_ids=query_ids, positive_ids=positive_ids,
        negative_ids=negative_ids, key_queries=key_queries, column_offset=column_offset, hardness=hardness,
        false_negative_margin=false_negative_margin,
    )  # fmt: skip
    backend = choose_backend(queries)
    if backend == "reference":
        loss, left_out = reference_loss(arguments), left_out_share(arguments)
    # Beyond eight prefixes the Triton kernels would spill, and a margin costs them a walk of its own.
    elif backend == "triton" and len(arguments.dims) <= MAX_PREFIXES and arguments.margin is None:
        loss = _triton_loss(arguments)
        left_out = torch.zeros_like(loss)
    else:
        loss, left_out = _torch_loss(arguments)
    return (loss, left_out.detach()) if return_left_out else loss


def _common(arguments: LossArguments) -> tuple[object, ...]:
    """Return what both operators take first."""
    return (
        arguments.queries, arguments.positives, arguments.key_queries, arguments.negatives, arguments.temperature,
        arguments.query_ids, arguments.positive_ids, arguments.negative_ids, arguments.dims,
    )  # fmt: skip


def _triton_loss(arguments: LossArguments) -> Tensor:
    losses, _ = torch.ops.gecko_kernels.triton_loss(
        *_common(arguments), arguments.same_tower, arguments.column_offset, arguments.hardness
    )
    return weighted_sum(losses.mean(0), arguments.dim_weights)


def _wants_gradient(arguments: LossArguments) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments.tensors)


def _torch_loss(arguments: LossArguments) -> tuple[Tensor, Tensor]:
    loss, left_out, *_ = torch.ops.gecko_kernels.chunked_loss(
        *_common(arguments), arguments.dim_weights, arguments.same_tower, arguments.column_offset, arguments.hardness,
        arguments.margin, _wants_gradient(arguments),
    )  # fmt: skip
    return loss, left_out


_COMMON = (
    "Tensor queries, Tensor positives, Tensor? key_queries, Tensor? negatives, Tensor temperature, "
    "Tensor? query_ids, Tensor? positive_ids, Tensor? negative_ids, int[] dims"
)
_FIVE = "(Tensor, Tensor, Tensor, Tensor, Tensor)"  # gradients: queries, positives, key_queries, negatives, temperature


@operator(
    "chunked_loss",
    f"({_COMMON}, float[] dim_weights, bool same_tower, int column_offset, float hardness, float? margin, "
    "bool gradients) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _chunked_op(queries, *inputs):  # type: ignore[no-untyped-def]
    result: ChunkedResult = chunked_loss(queries, *inputs)
    gradients = (result.queries, result.positives, result.key_queries, result.negatives, result.temperature)
    # An operator returns tensors: an empty one stands for a gradient that was not asked for.
    return result.loss, result.left_out, *(queries.new_empty(0) if value is None else value for value in gradients)


@torch.library.register_fake("gecko_kernels::chunked_loss")
def _chunked_fake(*inputs):  # type: ignore[no-untyped-def]
    queries, gradients = inputs[0], inputs[-1]
    loss = queries.new_empty((), dtype=wide(queries.dtype))
    return (
        loss,
        torch.empty_like(loss),
        *(queries.new_empty(0) if x is None or not gradients else torch.empty_like(x) for x in inputs[:5]),
    )


def _chunked_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*output[2:])
    ctx.set_materialize_grads(False)


def _chunked_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    gradients: list[Tensor | None] = [None] * 15
    if upstream is not None:
        for place, (gradient, needed) in enumerate(zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)):
            if needed:
                gradients[place] = torch.ops.gecko_kernels.scale(gradient, upstream)
    return tuple(gradients)


torch.library.register_autograd("gecko_kernels::chunked_loss", _chunked_backward, setup_context=_chunked_setup)


@operator("triton_loss", f"({_COMMON}, bool same_tower, int column_offset, float hardness) -> (Tensor, Tensor)")
def _triton_op(*inputs):  # type: ignore[no-untyped-def]
    from gecko_kernels.triton.contrastive import forward, make_problem

    return forward(make_problem(*inputs))


@torch.library.register_fake("gecko_kernels::triton_loss")
def _triton_fake(queries, *inputs):  # type: ignore[no-untyped-def]
    *_, dims, _, _, _ = inputs
    shape = (queries.shape[0], len(dims))
    return queries.new_empty(shape, dtype=torch.float32), queries.new_empty(shape, dtype=torch.float32)


@operator(
    "triton_loss_backward",
    f"({_COMMON}, bool same_tower, int column_offset, float hardness, Tensor lses, Tensor upstream) -> {_FIVE}",
)
def _triton_backward_op(*inputs):  # type: ignore[no-untyped-def]
    from gecko_kernels.triton.contrastive import backward, make_problem

    gradients = backward(make_problem(*inputs[:-2]), *inputs[-2:])
    return tuple(gradients.get(name, inputs[0].new_empty(0)) for name in _NAMES)


_NAMES = ("queries", "positives", "key_queries", "negatives", "temperature")


@torch.library.register_fake("gecko_kernels::triton_loss_backward")
def _triton_backward_fake(*inputs):  # type: ignore[no-untyped-def]
    return tuple(inputs[0].new_empty(0) if x is None else torch.empty_like(x) for x in inputs[:5])


def _triton_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:8], output[1])
    ctx.settings = inputs[8:]
    ctx.set_materialize_grads(False)


def _triton_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    if upstream is None:
        return (None,) * 12
    *tensors, lses = ctx.saved_tensors
    gradients = torch.ops.gecko_kernels.triton_loss_backward(*tensors, *ctx.settings, lses, upstream)
    needed = zip(gradients, ctx.needs_input_grad, strict=False)
    return *(gradient if wanted else None for gradient, wanted in needed), *(None,) * 7


torch.library.register_autograd("gecko_kernels::triton_loss", _triton_backward, setup_context=_triton_setup)
refuse_second_derivative("triton_loss_backward")
