"""The loss on CPU: row strips instead of B x B matrices, every Matryoshka prefix from one walk over the width.

Loss and gradients come out of one call. Three walks, 2 B^2 D operations being one unit:

1. queries x queries, upper triangle only (the matrix is symmetric): log-sum-exp of the same-tower terms (1/2 unit);
2. queries x positives in strips: with the sums of walk 1 every row's denominator is complete as soon as its strip is
   computed, so that its coefficients are used at once (1 unit + 2 for the gradients);
3. queries x queries again, upper triangle: G + G^T serves both roles of a query in one product (1/2 + 1 units).

Notation, as in docs/kernels.md: prefixes m ascending, a_m the norm of a row's prefix, x' = x / a_M (M the widest),
rho_m = a_M / a_m, so that the logit of prefix m is (q'_1..m . k'_1..m) rho_m(q) rho_m(k) / t;
coefficients g = dL/dlogit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gecko_kernels.reference import ZERO_NORM, wide

# Elements of one strip: small enough to stay in cache, large enough for an efficient matrix product.
STRIP_ELEMENTS = 1 << 21
# Up to this 1/t, exp(logit) neither overflows nor underflows in float32 whatever the batch, so no maximum is needed.
PLAIN_EXP_LIMIT = 56.0


@dataclass
class Side:
    """One matrix of embeddings, ready for nested products, and its gradient being gathered."""

    vectors: Tensor  # (N, D) x' = x / a_M
    inverse: Tensor  # (N, M) 1 / a_m, 0 for a zero prefix
    ratio: Tensor  # (N, M) rho_m = a_M / a_m, 0 for a zero prefix
    gradient: Tensor  # (N, D) sum of coefficient * k'
    pull: Tensor  # (N, M) r_m = sum over the other side of g * logit; the last column is found by `finish`

    def finish(self, segments: Sequence[slice]) -> Tensor:
        """dL/dx = gradient / a_M - x' a_M sum_{m covers c} r_m / a_m^2, for each segment c."""
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

    def __post_init__(self) -> None:
        # Whether any row meets its id in a column not its own; most batches have no such pair and need no mask.
        self.repeats = any(
            len(columns.unique()) < len(columns)
            if self.positive or self.self_masked
            else torch.isin(rows, columns).any()
            for rows, columns in zip(self.row_ids, self.column_ids, strict=True)
        )


@dataclass
class Mask:
    """Pairs of one strip that are not terms."""

    pairs: Tensor | None  # (R, C) bool, from equal ids; None: there are none
    diagonal: tuple[Tensor, Tensor] | None  # rows and columns of the rows' own column, where that is no term

    def fill_(self, logits: Tensor) -> Tensor:
        """Finite logits with exp() = 0: -inf would make NaN of the products g * logit."""
        low = torch.finfo(logits.dtype).min / 4
        if self.pairs is not None:
            logits.masked_fill_(self.pairs, low)
        if self.diagonal is not None:
            logits[self.diagonal] = low
        return logits


@dataclass
class Plan:
    """What all walks share."""

    segments: list[slice]
    weights: list[float]  # dim weight / B
    scale: float  # 1 / t
    plain: bool  # exp without a maximum
    offset: int
    strip: int  # rows
    device: torch.device


def segments_of(dims: Sequence[int]) -> list[slice]:
    """Columns that each prefix adds to the one before."""
    return [slice(start, end) for start, end in zip([0, *dims[:-1]], dims, strict=True)]


def prefix_inverse_norms(
    vectors: Tensor,  # (..., D)
    dims: Sequence[int],
) -> Tensor:  # (..., M)
    """1 / norm of every prefix, 0 for a zero vector; in the wide dtype without a wide copy of the input."""
    dtype = wide(vectors.dtype)
    parts = [torch.linalg.vector_norm(vectors[..., s], dim=-1, dtype=dtype).square() for s in segments_of(dims)]
    squares = torch.stack(parts, -1).cumsum(-1)
    there = squares > ZERO_NORM**2
    return torch.where(there, torch.where(there, squares, 1.0).rsqrt(), 0.0)


def make_side(vectors: Tensor, dims: Sequence[int], gradients: bool) -> Side:
    """Scale by the widest prefix's norm; the gradient starts at zero (and has no storage where none is asked for)."""
    inverse = prefix_inverse_norms(vectors, dims)
    scaled = vectors[..., : dims[-1]].to(inverse.dtype) * inverse[..., -1:]
    length = torch.where(inverse[..., -1:] > 0, inverse[..., -1:], 1.0).reciprocal()
    gradient = torch.zeros_like(scaled) if gradients else scaled.new_empty(0)
    return Side(scaled, inverse, inverse * length, gradient, torch.zeros_like(inverse))


def strip_logits(plan: Plan, rows: Side, part: slice, columns: Side, span: slice, mask: Mask) -> list[Tensor]:
    """Logits of some rows against some columns at every prefix; masked ones as ``Mask.fill_`` leaves them."""
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
    """Where the rows' own columns lie in a strip."""
    own = torch.arange(part.start, part.stop, device=plan.device) + plan.offset - span.start
    inside = ((own >= 0) & (own < span.stop - span.start)).nonzero()[:, 0]
    return inside, own[inside]


def strip_mask(plan: Plan, group: Group, part: slice, span: slice) -> Mask:
    """The pairs of a strip that are not terms."""
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


def same_tower_sums(plan: Plan, rows: Side, group: Group) -> tuple[Tensor, Tensor]:
    """Walk 1: maximum and sum of exp(logit - maximum) over the other queries, from the upper triangle alone.

    Returns:
        Two (B, M) tensors; the maximum is zero where plain exp is safe.
    """
    count = len(rows.vectors)
    shape = (count, len(plan.segments))
    maximum = rows.vectors.new_zeros(shape)
    if not plan.plain:
        maximum.fill_(torch.finfo(maximum.dtype).min / 4)
    total = rows.vectors.new_zeros(shape)
    for start in range(0, count, plan.strip):
        part, span = slice(start, min(start + plan.strip, count)), slice(start, count)
        beyond = part.stop - start
        mask = strip_mask(plan, group, part, span)
        for m, logits in enumerate(strip_logits(plan, rows, part, rows, span, mask)):
            if plan.plain:
                logits.exp_()
                total[part, m] += logits.sum(1)
                total[part.stop :, m] += logits[:, beyond:].sum(0)
                continue
            by_row, by_column = (part, logits, 1), (slice(part.stop, count), logits[:, beyond:], 0)
            for where, values, axis in (by_row, by_column):
                if values.numel():
                    top = torch.maximum(maximum[where, m], values.amax(axis))
                    total[where, m] *= (maximum[where, m] - top).exp()
                    total[where, m] += (values - top.unsqueeze(axis)).exp_().sum(axis)
                    maximum[where, m] = top
    return maximum, total


def same_tower_gradients(plan: Plan, rows: Side, group: Group, lse: Tensor) -> None:
    """Walk 3: both roles of every query at once, S = G + G^T, upper triangle only."""
    count = len(rows.vectors)
    weights = lse.new_tensor(plan.weights)
    share = weights * (-lse).exp() if plan.plain else lse
    for start in range(0, count, plan.strip):
        part, span = slice(start, min(start + plan.strip, count)), slice(start, count)
        beyond = part.stop - start
        mask = strip_mask(plan, group, part, span)
        logits = strip_logits(plan, rows, part, rows, span, mask)
        coefficient = logits[-1]
        for m in reversed(range(len(logits))):
            if plan.plain:
                both = share[part, m, None] + share[span, m]
                both *= logits[m].exp() if m < len(logits) - 1 else logits[m].exp_()
            else:
                both = (logits[m] - lse[part, m, None]).exp_() + (logits[m] - lse[span, m]).exp_()
                both *= plan.weights[m]
            if m < len(logits) - 1:
                weighted = logits[m].mul_(both)
                rows.pull[part, m] += weighted.sum(1)
                rows.pull[part.stop :, m] += weighted[:, beyond:].sum(0)
                both.mul_(rows.ratio[span, m])
                coefficient.addcmul_(both, rows.ratio[part, m, None])
            else:
                coefficient = both
            segment = plan.segments[m]
            rows.gradient[part, segment].addmm_(coefficient, rows.vectors[span, segment], alpha=plan.scale)
            if part.stop < count:
                rows.gradient[part.stop :, segment].addmm_(
                    coefficient[:, beyond:].T, rows.vectors[part, segment], alpha=plan.scale
                )


def own_logits(plan: Plan, rows: Side, part: slice, own: Side, mask: Tensor | None) -> Tensor:
    """Cosine / t of each row with its own H hard negatives at every prefix: H dot products per row, (R, H, M)."""
    steps = [
        torch.bmm(own.vectors[part, :, segment], rows.vectors[part, segment, None])[..., 0] for segment in plan.segments
    ]
    logits = torch.stack(steps, -1).cumsum(-1) * plan.scale * own.ratio[part] * rows.ratio[part, None, :]
    if mask is not None:
        logits = logits.masked_fill(mask[part, :, None], torch.finfo(logits.dtype).min / 4)
    return logits


def own_gradients(plan: Plan, rows: Side, part: slice, own: Side, logits: Tensor, coefficient: Tensor) -> None:
    """Adds the gradients of the own-negative terms; ``coefficient`` is g, (R, H, M)."""
    weighted = coefficient * logits  # masked: g = 0 and the logit is finite
    rows.pull[part] += weighted.sum(1)
    own.pull[part] += weighted
    scaled = coefficient * own.ratio[part] * rows.ratio[part, None, :] * plan.scale
    for m, segment in enumerate(plan.segments):
        combined = scaled[..., m:].sum(-1)  # (R, H)
        rows.gradient[part, segment] += torch.bmm(combined[:, None], own.vectors[part, :, segment])[:, 0]
        if own.gradient.numel():
            own.gradient[part, :, segment] += combined[..., None] * rows.vectors[part, None, segment]


def row_walk(
    plan: Plan,
    rows: Side,
    groups: list[Group],
    own: Group | None,
    own_masked: Tensor | None,  # (B, H)
    maximum: Tensor,  # (B, M) of the terms already summed
    total: Tensor,  # (B, M)
    gradients: bool,
) -> tuple[Tensor, Tensor]:
    """Walk 2: completes every row's denominator strip by strip; adds loss and gradients of all groups.

    Returns:
        loss (scalar) and the log-sum-exp of every row and prefix (B, M).
    """
    count = len(rows.vectors)
    lse = torch.empty_like(total)
    loss = total.new_zeros(())
    for start in range(0, count, plan.strip):
        part = slice(start, min(start + plan.strip, count))
        spans = [slice(0, len(group.side.vectors)) for group in groups]
        logits = [
            strip_logits(plan, rows, part, group.side, span, strip_mask(plan, group, part, span))
            for group, span in zip(groups, spans, strict=True)
        ]
        place = own_places(plan, part, spans[0])
        positive = torch.stack([one[place] for one in logits[0]], -1)  # (R, M)
        sharper = [group.sharper for group in groups]
        if own is not None:
            beside = own_logits(plan, rows, part, own.side, own_masked)
            logits.append(list(beside.unbind(-1)))
            sharper.append(own.sharper)
        exps, denominator, top = _exponentials(plan, logits, sharper, maximum[part], total[part], gradients)
        lse[part] = top + denominator.log()
        loss += ((lse[part] - positive) * loss.new_tensor(plan.weights)).sum()
        if not gradients:
            continue
        share = loss.new_tensor(plan.weights) / denominator
        for index, group in enumerate(groups):
            if group.positive:
                for m, values in enumerate(exps[index]):
                    values[place] -= denominator[:, m]
            _group_gradients(plan, rows, part, group, logits[index], exps[index], share)
        if own is not None:
            coefficient = torch.stack(exps[-1], -1) * share[:, None]
            own_gradients(plan, rows, part, own.side, beside, coefficient)
    return loss, lse


def _exponentials(
    plan: Plan,
    logits: list[list[Tensor]],
    sharper: list[float],
    maximum: Tensor,  # (R, M)
    total: Tensor,  # (R, M)
    keep: bool,
) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """exp(logit - top) per group and prefix, the sum of all with what was summed before, and top (0 where plain)."""
    last = len(plan.segments) - 1
    exps: list[list[Tensor]] = [[] for _ in logits]
    tops, sums = [], []
    for m in range(last + 1):
        top = maximum[:, m]
        if not plan.plain:
            for group, factor in zip(logits, sharper, strict=True):
                top = torch.maximum(top, group[m].amax(1) * factor)
        summed = total[:, m] * (maximum[:, m] - top).exp()
        for group, factor, out in zip(logits, sharper, exps, strict=True):
            # The logits are needed again for g * logit, but for the widest prefix, whose sum `Side.finish` knows.
            values = group[m].clone() if keep and m < last else group[m]
            if factor != 1.0:
                values = values * factor
            if not plan.plain:
                values = values.sub_(top[:, None])
            out.append(values.exp_())
            summed = summed + out[-1].sum(1)
        tops.append(top)
        sums.append(summed)
    return exps, torch.stack(sums, -1), torch.stack(tops, -1)


def _group_gradients(
    plan: Plan, rows: Side, part: slice, group: Group, logits: list[Tensor], exps: list[Tensor], share: Tensor
) -> None:
    """One product per segment and side, with the coefficients of all prefixes that cover the segment combined."""
    side = group.side
    coefficient = exps[-1].mul_(share[:, -1:])
    for m in reversed(range(len(exps))):
        if m < len(exps) - 1:
            g = exps[m].mul_(share[:, m, None])
            weighted = logits[m].mul_(g)
            rows.pull[part, m] += weighted.sum(1)
            side.pull[:, m] += weighted.sum(0)
            coefficient.addcmul_(g.mul_(side.ratio[:, m]), rows.ratio[part, m, None])
        segment = plan.segments[m]
        rows.gradient[part, segment].addmm_(coefficient, side.vectors[:, segment], alpha=plan.scale)
        if side.gradient.numel():
            side.gradient[:, segment].addmm_(coefficient.T, rows.vectors[part, segment], alpha=plan.scale)


@dataclass
class ChunkedResult:
    """The loss and, where asked for, the gradients (None where not)."""

    loss: Tensor
    queries: Tensor | None
    positives: Tensor | None
    key_queries: Tensor | None
    negatives: Tensor | None
    temperature: Tensor | None


def chunked_loss(
    queries: Tensor,
    positives: Tensor,
    key_queries: Tensor | None,
    negatives: Tensor | None,
    temperature: Tensor,
    query_ids: Tensor | None,
    positive_ids: Tensor | None,
    negative_ids: Tensor | None,
    dims: Sequence[int],
    dim_weights: Sequence[float],
    same_tower: bool,
    column_offset: int,
    hardness: float,
    gradients: bool,
) -> ChunkedResult:
    """Loss and gradients of checked arguments (``arguments.LossArguments``; own negatives are the three-dimensional).

    Memory beside inputs and gradients: scaled copies of the inputs and strips of ``STRIP_ELEMENTS``, O((B + H B) D).
    """
    t = float(temperature)
    own_scope = negatives is not None and negatives.dim() == 3
    columns = max(len(positives), 0 if negatives is None or own_scope else len(negatives))
    plan = Plan(
        segments=segments_of(dims),
        weights=[weight / len(queries) for weight in dim_weights],
        scale=1 / t,
        plain=1 / t + hardness <= (PLAIN_EXP_LIMIT if wide(queries.dtype) == torch.float32 else 8 * PLAIN_EXP_LIMIT),
        offset=column_offset,
        strip=max(4, min(1024, STRIP_ELEMENTS // columns)),
        device=queries.device,
    )
    own_column = slice(column_offset, column_offset + len(queries))
    rows = make_side(queries, dims, gradients)

    def ids(*names: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        there = [one for one in names if one is not None]
        return [one[own_column] for one in there], there

    groups = [Group(make_side(positives, dims, gradients), False, True, *ids(positive_ids, query_ids))]
    tower = None
    if same_tower and key_queries is None:
        tower = Group(rows, True, False, *ids(query_ids))
    elif same_tower:
        assert key_queries is not None
        groups.append(Group(make_side(key_queries, dims, gradients), True, False, *ids(query_ids)))
    own, own_masked, sharper = None, None, 1.0 + hardness * t
    if negatives is not None:
        side = make_side(negatives, dims, gradients)
        target = None if positive_ids is None else positive_ids[own_column]
        if own_scope:
            own = Group(side, False, False, [], [], sharper)
            own_masked = negative_ids == target[:, None] if negative_ids is not None and target is not None else None
        else:
            both = ([], []) if negative_ids is None or target is None else ([target], [negative_ids])
            groups.append(Group(side, False, False, *both, sharper))
    maximum, total = torch.zeros_like(rows.pull), torch.zeros_like(rows.pull)
    if tower is not None:
        maximum, total = same_tower_sums(plan, rows, tower)
    elif not plan.plain:
        maximum.fill_(torch.finfo(maximum.dtype).min / 4)
    loss, lse = row_walk(plan, rows, groups, own, own_masked, maximum, total, gradients)
    if not gradients:
        return ChunkedResult(loss, None, None, None, None, None)
    seen = (rows.vectors * rows.gradient).sum()
    if tower is not None:
        same_tower_gradients(plan, rows, tower, lse)
        # Walk 3 adds every pair in both roles; only one of them belongs to the sum over g * logit.
        seen = (seen + (rows.vectors * rows.gradient).sum()) / 2

    def finished(side: Side | None, like: Tensor | None) -> Tensor | None:
        if side is None or like is None:
            return None
        gradient = side.finish(plan.segments).to(like.dtype)
        rest = like.shape[-1] - gradient.shape[-1]
        return torch.nn.functional.pad(gradient, (0, rest)) if rest else gradient

    shared = own.side if own is not None else groups[-1].side if negatives is not None else None
    return ChunkedResult(
        loss,
        finished(rows, queries),
        finished(groups[0].side, positives),
        finished(groups[1].side, key_queries) if key_queries is not None and same_tower else None,
        finished(shared, negatives),
        (-seen * plan.scale).to(temperature.dtype).reshape(temperature.shape),
    )
