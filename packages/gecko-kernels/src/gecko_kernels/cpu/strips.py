"""Strips of a logit matrix: scaled embeddings, masks and the nested products of all Matryoshka prefixes.

Masks come from ids and from a margin: in-batch pairs that beat the row's own positive by the margin do not count. The
last prefix of a plan with a margin is the full width. Its logits, which every walk computes anyway, decide, so a margin
costs a comparison and a byte per element of the strip, and no product.

Notation, as in docs/kernels.md: prefixes m ascending, a_m the norm of a row's prefix, x' = x / a_M (M the widest),
rho_m = a_M / a_m, so that the logit of prefix m is (q'_1..m . k'_1..m) rho_m(q) rho_m(k) / t;
coefficients g = dL/dlogit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gecko_kernels.reference import inverse_root, wide


@dataclass
class Side:
    """One matrix of embeddings, scaled for nested products, and the gradient accumulated for it."""

    vectors: Tensor  # (N, D) x' = x / a_M
    inverse: Tensor  # (N, M) 1 / a_m, 0 for a zero prefix
    ratio: Tensor  # (N, M) rho_m = a_M / a_m, 0 for a zero prefix
    gradient: Tensor  # (N, D) accumulated: sum of coefficient * k'
    pull: Tensor  # (N, M) r_m = sum over the other side of g * logit; the last column is found by `finish`

    def finish(self, segments: Sequence[slice]) -> Tensor:
        """Return dL/dx = gradient / a_M - x' a_M sum_{m covers c} r_m / a_m^2, for each segment c."""
        # Products nest, so sum_c x'_c . gradient_c = sum_m r_m: one prefix needs no sum of its own.
        total = (self.vectors * self.gradient).sum(-1)
        self.pull[..., -1] = total - self.pull[..., :-1].sum(-1)
        # x' a_M r / a_m^2 = x' r rho_m / a_m; a zero prefix has rho = 1/a = 0 and drops out.
        along = self.pull * self.ratio * self.inverse
        for index, segment in enumerate(segments):
            part = self.gradient[..., segment].mul_(self.inverse[..., -1:])
            part.addcmul_(self.vectors[..., segment], along[..., index:].sum(-1, keepdim=True), value=-1)
        return self.gradient


@dataclass
class Group:
    """Columns that every row sees: all positives, other devices' queries, or a shared pool of negatives."""

    side: Side
    self_masked: bool  # the row's own column is not a term (same-tower)
    positive: bool  # the row's own column is the positive
    row_ids: list[Tensor]  # columns whose id equals the row's are masked; one pair of vectors per rule
    column_ids: list[Tensor]
    sharper: float = 1.0  # logit = cosine / t * sharper, the excess without a gradient (hardness)

    @property
    def in_batch(self) -> bool:
        """Whether the columns belong to rows: positives and queries, not hard negatives."""
        return self.positive or self.self_masked

    def __post_init__(self) -> None:
        # Whether any row meets its id in a column not its own; most batches have no such pair and need no mask.
        self.repeats = any(
            len(columns.unique()) < len(columns) if self.in_batch else torch.isin(rows, columns).any()
            for rows, columns in zip(self.row_ids, self.column_ids, strict=True)
        )


def masked_logit(dtype: torch.dtype) -> float:
    """Return the logit of a pair that is no term: finite, and far below all others."""
    return torch.finfo(dtype).min / 4


@dataclass
class Mask:
    """Pairs of one strip that are not terms."""

    pairs: Tensor | None  # (R, C) bool, from equal ids; None: there are none
    diagonal: tuple[Tensor, Tensor] | None  # rows and columns of the rows' own column, where that is no term

    def fill_(self, logits: Tensor) -> Tensor:
        """Give masked pairs a finite logit with exp() = 0: -inf would make NaN of the products g * logit."""
        low = masked_logit(logits.dtype)
        if self.pairs is not None:
            logits.masked_fill_(self.pairs, low)
        if self.diagonal is not None:
            logits[self.diagonal] = low
        return logits


@dataclass
class Plan:
    """Settings that all walks share."""

    segments: list[slice]
    weights: list[float]  # dim weight / B
    scale: float  # 1 / t
    plain: bool  # exp without a maximum
    offset: int
    strip: int  # rows
    device: torch.device
    # (B,): an in-batch pair whose logit at the last prefix, the full width, is higher does not count. None: no margin.
    limit: Tensor | None = None


def segments_of(dims: Sequence[int]) -> list[slice]:
    """Return the columns that each prefix adds to the one before."""
    return [slice(start, end) for start, end in zip([0, *dims[:-1]], dims, strict=True)]


def prefix_inverse_norms(
    vectors: Tensor,  # (..., D)
    dims: Sequence[int],
) -> Tensor:  # (..., M)
    """Compute 1 / norm of every prefix, 0 for a zero vector; in the wide dtype without a wide copy of the input."""
    dtype = wide(vectors.dtype)
    parts = [torch.linalg.vector_norm(vectors[..., s], dim=-1, dtype=dtype).square() for s in segments_of(dims)]
    squares = torch.stack(parts, -1).cumsum(-1)
    return inverse_root(squares)


def make_side(vectors: Tensor, dims: Sequence[int], gradients: bool) -> Side:
    """Scale by the widest prefix's norm; the gradient starts at zero (without storage where none is asked for)."""
    inverse = prefix_inverse_norms(vectors, dims)
    scaled = vectors[..., : dims[-1]].to(inverse.dtype) * inverse[..., -1:]
    length = torch.where(inverse[..., -1:] > 0, inverse[..., -1:], 1.0).reciprocal()
    gradient = torch.zeros_like(scaled) if gradients else scaled.new_empty(0)
    return Side(scaled, inverse, inverse * length, gradient, torch.zeros_like(inverse))


def strip_logits(plan: Plan, rows: Side, part: slice, columns: Side, span: slice, mask: Mask) -> list[Tensor]:
    """Compute logits of some rows against some columns at every prefix; masked ones as ``Mask.fill_`` leaves them."""
    product = rows.vectors.new_zeros((part.stop - part.start, span.stop - span.start))
    logits = []
    for index, segment in enumerate(plan.segments):
        product.addmm_(rows.vectors[part, segment], columns.vectors[span, segment].T, alpha=plan.scale)
        scaled = product
        if index < len(plan.segments) - 1:
            scaled = (product * columns.ratio[span, index]).mul_(rows.ratio[part, index, None])
        logits.append(mask.fill_(scaled))
    return logits


def own_places(plan: Plan, part: slice, span: slice) -> tuple[Tensor, Tensor]:
    """Return where the rows' own columns lie in a strip: their rows and columns."""
    own = torch.arange(part.start, part.stop, device=plan.device) + plan.offset - span.start
    inside = ((own >= 0) & (own < span.stop - span.start)).nonzero()[:, 0]
    return inside, own[inside]


def strip_mask(plan: Plan, group: Group, part: slice, span: slice) -> Mask:
    """Find the pairs of a strip that are not terms."""
    own = own_places(plan, part, span) if group.self_masked or group.positive else None
    pairs = None
    if group.repeats:
        shape = (part.stop - part.start, span.stop - span.start)
        pairs = torch.zeros(shape, dtype=torch.bool, device=plan.device)
        for row_ids, column_ids in zip(group.row_ids, group.column_ids, strict=True):
            pairs |= row_ids[part, None] == column_ids[span]
        if own is not None and group.positive:
            pairs[own] = False
    return Mask(pairs, own if group.self_masked else None)


def margin_limit(plan: Plan, rows: Side, positives: Side, margin: float) -> Tensor:  # (B,)
    """Return (s(q_i, p_i) + margin) / t at full width: a pair with a higher logit is a likely false negative."""
    own = positives.vectors[plan.offset : plan.offset + len(rows.vectors)]
    return ((rows.vectors * own).sum(1) + margin) * plan.scale


def leave_out(
    plan: Plan,
    part: slice,
    logits: list[Tensor],  # (R, C) per prefix, changed in place
    keep: tuple[Tensor, Tensor] | None,  # rows and columns of the own positives
) -> Tensor:
    """Mask a strip's pairs above the limit of their row at every prefix, and return how many these are."""
    assert plan.limit is not None
    above = logits[-1] > plan.limit[part, None]
    if keep is not None:
        above[keep] = False  # whatever the rounding, where the margin is zero
    for values in logits:
        values.masked_fill_(above, masked_logit(values.dtype))
    return above.sum()


def above_both(plan: Plan, part: slice, span: slice, logits: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the pairs of a same-tower strip above the limit of the row and above that of the column, (R, C) each."""
    if plan.limit is None:
        return None
    return logits > plan.limit[part, None], logits > plan.limit[span]


def clear(values: Tensor, above: Tensor | None, fill: float) -> Tensor:
    """Return values with those above the limit replaced, in a copy; without a margin the values themselves."""
    return values if above is None else values.masked_fill(above, fill)


def add_gradients(
    plan: Plan,
    rows: Side,
    part: slice,
    columns: Side,
    logits: list[Tensor],  # (R, C) per prefix, changed in place
    coefficients: list[Tensor],  # (R, C) per prefix, changed in place
    share: Tensor,  # (R, M)
) -> None:
    """Add the gradients of a strip, both sides, where dL/dlogit = share * coefficient.

    One product per segment and side, with the coefficients of all prefixes that cover the segment combined.
    """
    combined = coefficients[-1].mul_(share[:, -1:])
    for m in reversed(range(len(coefficients))):
        if m < len(coefficients) - 1:
            g = coefficients[m].mul_(share[:, m, None])
            weighted = logits[m].mul_(g)
            rows.pull[part, m] += weighted.sum(1)
            columns.pull[:, m] += weighted.sum(0)
            combined.addcmul_(g.mul_(columns.ratio[:, m]), rows.ratio[part, m, None])
        segment = plan.segments[m]
        rows.gradient[part, segment].addmm_(combined, columns.vectors[:, segment], alpha=plan.scale)
        if columns.gradient.numel():
            columns.gradient[:, segment].addmm_(combined.T, rows.vectors[part, segment], alpha=plan.scale)


def finished(plan: Plan, side: Side, like: Tensor) -> Tensor:
    """Return a side's gradient in the dtype and width of its input."""
    gradient = side.finish(plan.segments).to(like.dtype)
    missing = like.shape[-1] - gradient.shape[-1]
    return torch.nn.functional.pad(gradient, (0, missing)) if missing else gradient
