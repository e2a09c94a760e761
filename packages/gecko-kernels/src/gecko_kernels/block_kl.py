"""Distillation of a block: a teacher's scores of queries x documents into the student's cosines (KL divergence)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gecko_kernels._arguments import BlockArguments, check_block, weighted_sum
from gecko_kernels._backend import choose_backend
from gecko_kernels._operators import operator, refuse_second_derivative
from gecko_kernels.cpu.block_kl import BlockResult, chunked_block_kl
from gecko_kernels.reference import reference_block_kl, wide
from gecko_kernels.triton.tiles import MAX_PREFIXES


def block_kl_loss(
    queries: Tensor,  # (Q, D)
    documents: Tensor,  # (N, D)
    targets: Tensor,  # (Q, N), NaN where nobody judged
    *,
    temperature: float | Tensor,
    teacher_temperature: float = 1.0,
    dims: Sequence[int] | None = None,
    dim_weights: Sequence[float] | None = None,
) -> Tensor:
    """Compute KL( softmax(targets / a) || softmax(cosine / t) ) of every query over its judged documents of a block.

    Where ``kl_list_loss`` gives every query candidates of its own, here all queries share the documents of the batch:
    Q + N embeddings carry up to Q x N scores. Averaged over the queries with at least two judged documents; Matryoshka
    prefixes are re-normalised, weighted and added. The KL is not multiplied by t^2 (Hinton et al. 2015, section 2.1,
    scale by it so that the gradient does not depend on the temperature; here the weight of the term is the caller's).

    A target of NaN (or +inf) was not judged and is left out of both softmaxes. One of -inf was judged, with
    probability 0: it stands in the student's softmax. A query with fewer than two judged documents, or with none above
    -inf, does not count; without a query that counts, loss and gradients are zero. A zero vector has cosine zero to
    everything and gradient zero.

    Args:
        queries: unnormalised embeddings, with gradient; float16, bfloat16, float32 or float64.
        documents: unnormalised embeddings, with gradient.
        targets: the teacher's logits, e.g. log probabilities; any floating dtype, no gradient.
        temperature: t, a positive number or a tensor with one element, which then receives a gradient.
        teacher_temperature: a, a positive number.
        dims: Matryoshka prefixes, e.g. ``(768, 256)``; default: the whole width only.
        dim_weights: one weight per entry of ``dims``; default: all 1.

    Returns:
        Scalar, float32 (float64 for float64 inputs). First derivatives only, except with the "reference" backend.

    Raises:
        ValueError: shapes, devices, dims or a temperature do not fit; the message prints expected and found.
        TypeError: a dtype does not fit.
        RuntimeError: ``GECKO_KERNELS_BACKEND`` asks for what this machine or these inputs cannot run.
    """
    arguments = check_block(
        queries, documents, targets, temperature=temperature, teacher_temperature=teacher_temperature, dims=dims,
        dim_weights=dim_weights,
    )  # fmt: skip
    backend = choose_backend(queries)
    if backend == "reference":
        return reference_block_kl(arguments)
    # Beyond eight prefixes the Triton kernels would spill.
    if backend == "triton" and len(arguments.dims) <= MAX_PREFIXES:
        return _triton_loss(arguments)
    return _torch_loss(arguments)


def _triton_loss(arguments: BlockArguments) -> Tensor:
    losses, _, teachers = torch.ops.gecko_kernels.triton_block_kl(
        arguments.queries, arguments.documents, arguments.targets, arguments.temperature,
        arguments.teacher_temperature, arguments.dims,
    )  # fmt: skip
    counted = teachers[:, 1].isfinite().sum().clamp(min=1)
    return weighted_sum(losses.sum(0) / counted, arguments.dim_weights)


def _torch_loss(arguments: BlockArguments) -> Tensor:
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in arguments.tensors)
    loss, *_ = torch.ops.gecko_kernels.chunked_block_kl(
        arguments.queries, arguments.documents, arguments.targets, arguments.temperature,
        arguments.teacher_temperature, arguments.dims, arguments.dim_weights, gradients,
    )  # fmt: skip
    return loss


_COMMON = "Tensor queries, Tensor documents, Tensor targets, Tensor temperature, float teacher_temperature, int[] dims"
_DIFFERENTIABLE = (0, 1, 3)  # places of queries, documents and temperature


@operator("chunked_block_kl", f"({_COMMON}, float[] dim_weights, bool gradients) -> (Tensor, Tensor, Tensor, Tensor)")
def _chunked_op(queries, *inputs):  # type: ignore[no-untyped-def]
    result: BlockResult = chunked_block_kl(queries, *inputs)
    gradients = (result.queries, result.documents, result.temperature)
    # An operator returns tensors: an empty one stands for a gradient that was not asked for.
    return result.loss, *(queries.new_empty(0) if value is None else value.contiguous() for value in gradients)


@torch.library.register_fake("gecko_kernels::chunked_block_kl")
def _chunked_fake(*inputs):  # type: ignore[no-untyped-def]
    queries, gradients = inputs[0], inputs[-1]
    places = _DIFFERENTIABLE if gradients else ()
    found = [_empty(inputs[place]) for place in places] or [queries.new_empty(0) for _ in _DIFFERENTIABLE]
    return queries.new_empty((), dtype=wide(queries.dtype)), *found


def _empty(like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=torch.contiguous_format)


def _chunked_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*output[1:])
    ctx.set_materialize_grads(False)


def _chunked_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    gradients: list[Tensor | None] = [None] * 8
    if upstream is not None:
        for place, gradient in zip(_DIFFERENTIABLE, ctx.saved_tensors, strict=True):
            if ctx.needs_input_grad[place]:
                gradients[place] = torch.ops.gecko_kernels.scale(gradient, upstream)
    return tuple(gradients)


torch.library.register_autograd("gecko_kernels::chunked_block_kl", _chunked_backward, setup_context=_chunked_setup)


@operator("triton_block_kl", f"({_COMMON}) -> (Tensor, Tensor, Tensor)")
def _triton_op(*inputs):  # type: ignore[no-untyped-def]
    from gecko_kernels.triton.block_kl import BlockProblem, forward

    return forward(BlockProblem.make(*inputs))


@torch.library.register_fake("gecko_kernels::triton_block_kl")
def _triton_fake(queries, *inputs):  # type: ignore[no-untyped-def]
    rows, count = queries.shape[0], len(inputs[-1])
    return tuple(queries.new_empty((rows, columns), dtype=torch.float32) for columns in (count, count, 2))


@operator(
    "triton_block_kl_backward",
    f"({_COMMON}, Tensor lses, Tensor teachers, Tensor upstream) -> (Tensor, Tensor, Tensor)",
)
def _triton_backward_op(*inputs):  # type: ignore[no-untyped-def]
    from gecko_kernels.triton.block_kl import BlockProblem, backward

    return backward(BlockProblem.make(*inputs[:-3]), *inputs[-3:])


@torch.library.register_fake("gecko_kernels::triton_block_kl_backward")
def _triton_backward_fake(*inputs):  # type: ignore[no-untyped-def]
    return tuple(_empty(inputs[place]) for place in _DIFFERENTIABLE)


def _triton_setup(ctx, inputs, output):  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:4], *output[1:])
    ctx.settings = inputs[4:]
    ctx.set_materialize_grads(False)


def _triton_backward(ctx, upstream, *_):  # type: ignore[no-untyped-def]
    if upstream is None:
        return (None,) * 6
    *tensors, lses, teachers = ctx.saved_tensors
    found = torch.ops.gecko_kernels.triton_block_kl_backward(*tensors, *ctx.settings, lses, teachers, upstream)
    gradients: list[Tensor | None] = [None] * 6
    for place, gradient in zip(_DIFFERENTIABLE, found, strict=True):
        if ctx.needs_input_grad[place]:
            gradients[place] = gradient
    return tuple(gradients)


torch.library.register_autograd("gecko_kernels::triton_block_kl", _triton_backward, setup_context=_triton_setup)
refuse_second_derivative("triton_block_kl_backward")
