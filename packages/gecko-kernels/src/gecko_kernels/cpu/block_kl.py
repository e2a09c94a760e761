"""The block KL loss on CPU: strips of queries against all documents, every Matryoshka prefix from one walk.

Loss and gradients come out of one call. A strip's softmaxes are complete as soon as it is computed, so nothing of size
Q x N is held and nothing is computed twice: one product for the logits, two for the gradients. Notation as in
``strips``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gecko_kernels.cpu.strips import (
    Mask,
    Plan,
    add_gradients,
    finished,
    make_side,
    segments_of,
    strip_logits,
)
from gecko_kernels.reference import wide

# Elements of one strip, as in ``one_pass``.
STRIP_ELEMENTS = 1 << 20


@dataclass
class Teacher:
    """The teacher's distribution over the documents of some rows."""

    probabilities: Tensor  # (R, N), 0 where nobody judged and in rows that do not count
    negative_entropy: Tensor  # (R,) sum of p log p
    unjudged: Tensor | None  # (R, N) bool; None: all pairs are judged
    counts: Tensor  # (R,) bool


def strip_teacher(
    targets: Tensor,  # (R, N)
    temperature: float,
    dtype: torch.dtype,
) -> Teacher:
    """Compute the softmax of the judged targets, by the rules of ``reference.reference_block_kl``."""
    scores = targets.to(dtype) / temperature
    unjudged = ~(scores < torch.inf)
    scores.masked_fill_(unjudged, -torch.inf)
    top = scores.amax(1, keepdim=True)
    counts = (unjudged.sum(1) <= targets.shape[1] - 2) & (top[:, 0] > -torch.inf)
    scores -= top.masked_fill_(top == -torch.inf, 0.0)
    probabilities = scores.exp()
    total = probabilities.sum(1, keepdim=True)
    probabilities *= torch.where(counts[:, None], total.reciprocal(), 0.0)
    # sum of p (score - top) - log total; a score of -inf has p = 0 and adds nothing.
    products = scores.clamp_(min=torch.finfo(dtype).min / 4).mul_(probabilities)
    negative_entropy = products.sum(1) - torch.where(counts, total[:, 0].log(), 0.0)
    return Teacher(probabilities, negative_entropy, unjudged if unjudged.any() else None, counts)


@dataclass
class BlockResult:
    """The loss and, where asked for, the gradients (None where not)."""

    loss: Tensor
    queries: Tensor | None = None
    documents: Tensor | None = None
    temperature: Tensor | None = None


def chunked_block_kl(
    queries: Tensor,  # (Q, D)
    documents: Tensor,  # (N, D)
    targets: Tensor,  # (Q, N)
    temperature: Tensor,
    teacher_temperature: float,
    dims: Sequence[int],
    dim_weights: Sequence[float],
    gradients: bool,
) -> BlockResult:
    """Compute loss and gradients of checked arguments (``BlockArguments``).

    Memory beside inputs and gradients: scaled copies of the inputs, O((Q + N) D), and strips of ``STRIP_ELEMENTS``.
    """
    dtype, count = wide(queries.dtype), len(documents)
    rows, columns = make_side(queries, dims, gradients), make_side(documents, dims, gradients)
    plan = Plan(
        segments=segments_of(dims),
        weights=list(dim_weights),
        scale=1 / float(temperature),
        plain=False,
        offset=0,
        strip=max(4, min(1024, STRIP_ELEMENTS // max(count, 1))),
        device=queries.device,
    )
    loss, counted = rows.inverse.new_zeros(()), 0
    for start in range(0, len(queries) if count >= 2 else 0, plan.strip):
        part = slice(start, min(start + plan.strip, len(queries)))
        teacher = strip_teacher(targets[part], teacher_temperature, dtype)
        if not (counting := int(teacher.counts.sum())):
            continue
        counted += counting
        logits = strip_logits(plan, rows, part, columns, slice(0, count), Mask(teacher.unjudged, None))
        share = teacher.counts[:, None] * loss.new_tensor(plan.weights)  # (R, M)
        differences = []
        for m in range(len(logits)):
            divergence, difference = _divergence(teacher, logits[m], keep=gradients and m < len(logits) - 1)
            loss += (divergence * share[:, m]).sum()
            differences.append(difference)
        if gradients:
            add_gradients(plan, rows, part, columns, logits, differences, share)
    # The mean over the rows that count is taken last, when their number is known.
    mean = 1 / max(counted, 1)
    loss *= mean
    if not gradients:
        return BlockResult(loss)
    for side in (rows, columns):
        side.gradient *= mean
        side.pull *= mean
    seen = (rows.vectors * rows.gradient).sum()  # sum of g * logit
    return BlockResult(
        loss,
        finished(plan, rows, queries),
        finished(plan, columns, documents),
        (-seen * plan.scale).to(temperature.dtype).reshape(temperature.shape),
    )


def _divergence(
    teacher: Teacher,
    logits: Tensor,  # (R, N), changed in place unless they are kept
    *,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """Return the divergence of every row, (R,), and its gradient to the logits, softmax - p, (R, N)."""
    top = logits.amax(1, keepdim=True)
    shifted = logits - top if keep else logits.sub_(top)
    expected = (teacher.probabilities * shifted).sum(1)
    exps = shifted.exp_()
    total = exps.sum(1, keepdim=True)
    divergence = teacher.negative_entropy - expected + total[:, 0].log()
    return divergence, exps.div_(total).sub_(teacher.probabilities)
