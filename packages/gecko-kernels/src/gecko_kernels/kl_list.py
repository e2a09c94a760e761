"""Distillation of a teacher's scores over N candidates per row into the student's cosines (KL divergence)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gecko_kernels._arguments import (
    below_best,
    check_dims,
    check_floating,
    check_like,
    check_temperature,
    check_tensors,
    shape_of,
)
from gecko_kernels.cpu.strips import segments_of
from gecko_kernels.reference import inverse_root, wide


def kl_list_loss(
    queries: Tensor,  # (B, D)
    candidates: Tensor,  # (B, N, D)
    teacher_scores: Tensor,  # (B, N), NaN or -inf: not scored
    *,
    temperature: float | Tensor,
    teacher_temperature: float = 1.0,
    dims: Sequence[int] | None = None,
    dim_weights: Sequence[float] | None = None,
) -> Tensor:
    """Compute KL( softmax(teacher / a) || softmax(cosine / t) ) over each row's candidates, at every Matryoshka prefix.

    Meant to be added to the contrastive loss: ``same_tower_softmax_loss(...) + w * kl_list_loss(...)``. Candidates
    without a score are left out of both softmaxes; a row with fewer than two scores does not count. The dot products of
    all prefixes come from one walk over the width. Plain PyTorch on every device, O(B N D) memory.

    Args:
        queries: unnormalised embeddings, with gradient.
        candidates: N unnormalised embeddings per row, with gradient.
        teacher_scores: on any scale; no gradient.
        temperature: t, a positive number or a tensor with one element, which then receives a gradient.
        teacher_temperature: a, a positive number.
        dims: Matryoshka prefixes, as in ``same_tower_softmax_loss``.
        dim_weights: one weight per entry of ``dims``.

    Returns:
        Scalar in float32 (float64 for float64 inputs): mean over rows that count, sum of weight * KL over dims; zero
        (with a graph) if none counts.

    Raises:
        ValueError: a shape, a dim or a temperature does not fit; the message prints expected and found.
        TypeError: a dtype does not fit.
    """
    names = ("queries", "candidates", "teacher_scores")
    check_tensors(required=names, queries=queries, candidates=candidates, teacher_scores=teacher_scores)
    if queries.dim() != 2 or candidates.dim() != 3 or (len(queries), queries.shape[1]) != (
        len(candidates), candidates.shape[2],
    ):  # fmt: skip
        raise ValueError(
            f"kl_list_loss: expected queries (B, D) and candidates (B, N, D), "
            f"found {shape_of(queries)} and {shape_of(candidates)}"
        )
    check_floating("queries", queries)
    check_like("candidates", candidates, queries)
    if teacher_scores.shape != candidates.shape[:2]:
        raise ValueError(
            f"teacher_scores: expected shape {shape_of(candidates[..., 0])}, found {shape_of(teacher_scores)}"
        )
    if not 0 < teacher_temperature < math.inf:
        raise ValueError(f"teacher_temperature: expected a positive number, found {teacher_temperature}")
    ordered, weights = check_dims(queries.shape[1], dims, dim_weights)
    t = check_temperature(temperature, queries)
    known = teacher_scores.isfinite()
    counts = known.sum(1) >= 2
    # -inf for what is left out, whatever the scale of the scores; rows that do not count keep all their entries, or
    # their softmax would be NaN, and so would its gradient.
    scores = below_best(teacher_scores.detach(), teacher_temperature, wide(queries.dtype))
    scores = torch.where(known, scores, 0.0)
    kept = known | ~counts[:, None]
    teacher = torch.where(kept, scores, -torch.inf).log_softmax(1)
    loss = teacher.new_zeros(())
    for cosines, weight in zip(prefix_cosines(queries, candidates, ordered), weights, strict=True):
        student = torch.where(kept, cosines / t.to(cosines.dtype), -torch.inf).log_softmax(1)
        # 0 * (-inf - -inf) would be NaN, and its gradient, too, on either side of a `where`.
        apart = torch.where(known, teacher, 0.0) - torch.where(known, student, 0.0)
        terms = (teacher.exp() * apart).sum(1)
        loss = loss + weight * torch.where(counts, terms, 0.0).sum() / counts.sum().clamp(min=1)
    return loss


def prefix_cosines(
    queries: Tensor,  # (B, D)
    candidates: Tensor,  # (B, N, D)
    dims: Sequence[int],  # ascending
) -> list[Tensor]:  # each (B, N)
    """Compute the cosines at every prefix in one walk over the width: products and squares nest."""
    q, c = queries.to(wide(queries.dtype)), candidates.to(wide(candidates.dtype))
    product: Tensor | float = 0.0
    q_squares: Tensor | float = 0.0
    c_squares: Tensor | float = 0.0
    cosines = []
    for segment in segments_of(dims):
        product = product + torch.bmm(c[..., segment], q[:, segment, None])[..., 0]
        q_squares = q_squares + q[:, segment].square().sum(-1, keepdim=True)
        c_squares = c_squares + c[..., segment].square().sum(-1)
        cosines.append(product * inverse_root(q_squares) * inverse_root(c_squares))
    return cosines
