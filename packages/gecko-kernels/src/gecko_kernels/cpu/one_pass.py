"""The loss on CPU: row strips instead of B x B matrices, every Matryoshka prefix from one walk over the width.

Loss and gradients come out of one call. Three walks, 2 B^2 D operations being one unit:

1. queries x queries, upper triangle only (the matrix is symmetric): log-sum-exp of the same-tower terms (1/2 unit);
2. queries x positives in strips: with the sums of walk 1 every row's denominator is complete as soon as its strip is
   computed, so that its coefficients are used at once (1 unit + 2 for the gradients);
3. queries x queries again, upper triangle: G + G^T serves both roles of a query in one product (1/2 + 1 units).

Notation as in ``strips``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gecko_kernels.cpu.strips import (
    Group,
    Plan,
    Side,
    above_both,
    add_gradients,
    clear,
    finished,
    leave_out,
    make_side,
    margin_limit,
    masked_logit,
    own_places,
    segments_of,
    strip_logits,
    strip_mask,
)
from gecko_kernels.reference import wide

# Elements of one strip: small enough to stay in cache, large enough for an efficient matrix product.
STRIP_ELEMENTS = 1 << 20
# Up to this 1/t, exp(logit) neither overflows nor underflows in float32 whatever the batch, so no maximum is needed.
PLAIN_EXP_LIMIT = 56.0


def same_tower_sums(plan: Plan, rows: Side, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Walk 1: maximum and sum of exp(logit - maximum) over the other queries, from the upper triangle alone.

    Returns:
        Maximum and sum, both (B, M), the maximum zero where plain exp is safe; how many pairs the margin leaves out.
    """
    count = len(rows.vectors)
    maximum, total = torch.zeros_like(rows.pull), torch.zeros_like(rows.pull)
    low = masked_logit(maximum.dtype)
    if not plan.plain:
        maximum.fill_(low)
    left_out = torch.zeros((), dtype=torch.int64, device=plan.device)
    for start in range(0, count, plan.strip):
        part, span = slice(start, min(start + plan.strip, count)), slice(start, count)
        beyond = part.stop - start
        strip = strip_logits(plan, rows, part, rows, span, strip_mask(plan, group, part, span))
        above, above_beyond = None, None  # of the limit of the row, and beyond the diagonal block of the column's
        if (both := above_both(plan, part, span, strip[-1])) is not None:
            above, above_beyond = both[0], both[1][:, beyond:]
            left_out += above.sum() + above_beyond.sum()
        for m, logits in enumerate(strip):
            if plan.plain:
                logits.exp_()
                total[part, m] += clear(logits, above, 0.0).sum(1)
                total[part.stop :, m] += clear(logits[:, beyond:], above_beyond, 0.0).sum(0)
                continue
            by_row = part, clear(logits, above, low), 1
            by_column = slice(part.stop, count), clear(logits[:, beyond:], above_beyond, low), 0
            for where, values, axis in (by_row, by_column):
                if values.numel():
                    top = torch.maximum(maximum[where, m], values.amax(axis))
                    total[where, m] *= (maximum[where, m] - top).exp()
                    total[where, m] += (values - top.unsqueeze(axis)).exp_().sum(axis)
                    maximum[where, m] = top
    return maximum, total, left_out


def same_tower_gradients(plan: Plan, rows: Side, group: Group, lse: Tensor) -> None:
    """Walk 3: both roles of every query at once, S = G + G^T, upper triangle only."""
    count = len(rows.vectors)
    share = lse.new_tensor(plan.weights) * (-lse).exp() if plan.plain else lse
    for start in range(0, count, plan.strip):
        part, span = slice(start, min(start + plan.strip, count)), slice(start, count)
        beyond = part.stop - start
        logits = strip_logits(plan, rows, part, rows, span, strip_mask(plan, group, part, span))
        above = above_both(plan, part, span, logits[-1])
        coefficient = logits[-1]
        for m in reversed(range(len(logits))):
            both = _both_roles(plan, m, logits[m], share[part, m, None], share[span, m], above)
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


def _both_roles(
    plan: Plan,
    m: int,
    logits: Tensor,  # (R, C), of the last prefix reused
    of_row: Tensor,  # (R, 1) weight * exp(-lse) where plain, else lse
    of_column: Tensor,  # (C,)
    above: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Coefficients of a strip at one prefix, G + G^T; a pair above a limit has no part in that role."""
    by_row, by_column = above or (None, None)
    if plan.plain:
        both = clear(of_row, by_row, 0.0) + clear(of_column, by_column, 0.0)
        both *= logits.exp() if m < len(plan.segments) - 1 else logits.exp_()
        return both
    # Where a pair is no term exp() may overflow, since the log-sum-exp is without it: cleared afterwards.
    both = clear((logits - of_row).exp_(), by_row, 0.0)
    both += clear((logits - of_column).exp_(), by_column, 0.0)
    both *= plan.weights[m]
    return both


def own_logits(plan: Plan, rows: Side, part: slice, own: Side, mask: Tensor | None) -> Tensor:
    """Compute cosine / t of each row with its own H hard negatives at every prefix, (R, H, M): H dot products a row."""
    steps = [
        torch.bmm(own.vectors[part, :, segment], rows.vectors[part, segment, None])[..., 0] for segment in plan.segments
    ]
    logits = torch.stack(steps, -1).cumsum(-1) * plan.scale * own.ratio[part] * rows.ratio[part, None, :]
    if mask is not None:
        logits = logits.masked_fill(mask[part, :, None], masked_logit(logits.dtype))
    return logits


def own_gradients(plan: Plan, rows: Side, part: slice, own: Side, logits: Tensor, coefficient: Tensor) -> None:
    """Add the gradients of the own-negative terms; ``coefficient`` is g, (R, H, M)."""
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Walk 2: complete every row's denominator strip by strip; add loss and gradients of all groups.

    Returns:
        The loss (scalar), the log-sum-exp of every row and prefix (B, M), and how many pairs the margin leaves out.
    """
    count = len(rows.vectors)
    lse = torch.empty_like(total)
    loss = total.new_zeros(())
    left_out = torch.zeros((), dtype=torch.int64, device=plan.device)
    for start in range(0, count, plan.strip):
        part = slice(start, min(start + plan.strip, count))
        spans = [slice(0, len(group.side.vectors)) for group in groups]
        logits = [
            strip_logits(plan, rows, part, group.side, span, strip_mask(plan, group, part, span))
            for group, span in zip(groups, spans, strict=True)
        ]
        place = own_places(plan, part, spans[0])
        positive = torch.stack([values[place] for values in logits[0]], -1)  # (R, M)
        for group, strip in zip(groups, logits, strict=True):
            if plan.limit is not None and group.in_batch:
                left_out += leave_out(plan, part, strip, place if group.positive else None)
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
            add_gradients(plan, rows, part, group.side, logits[index], exps[index], share)
        if own is not None:
            coefficient = torch.stack(exps[-1], -1) * share[:, None]
            own_gradients(plan, rows, part, own.side, beside, coefficient)
    return loss, lse, left_out


def _exponentials(
    plan: Plan,
    logits: list[list[Tensor]],
    sharper: list[float],
    maximum: Tensor,  # (R, M)
    total: Tensor,  # (R, M)
    keep: bool,
) -> tuple[list[list[Tensor]], Tensor, Tensor]:
    """Return exp(logit - top) per group and prefix, its sum with what was summed before, and top (0 where plain)."""
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


@dataclass
class ChunkedResult:
    """The loss, the share of pairs that the margin leaves out and, where asked for, the gradients (None where not)."""

    loss: Tensor
    left_out: Tensor
    queries: Tensor | None = None
    positives: Tensor | None = None
    key_queries: Tensor | None = None
    negatives: Tensor | None = None
    temperature: Tensor | None = None


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
    margin: float | None,
    gradients: bool,
) -> ChunkedResult:
    """Compute loss and gradients of checked arguments (``LossArguments``; own negatives are the three-dimensional).

    Memory beside inputs and gradients: scaled copies of the inputs and strips of ``STRIP_ELEMENTS``, O((B + H B) D).
    """
    if margin is not None and dims[-1] < queries.shape[1]:
        # The margin is decided at full width: a last prefix of no weight.
        dims, dim_weights = [*dims, queries.shape[1]], [*dim_weights, 0.0]
    columns = max(len(positives), len(negatives) if negatives is not None and negatives.dim() == 2 else 0)
    plan = _plan(queries, columns, float(temperature), dims, dim_weights, column_offset, hardness)
    rows = make_side(queries, dims, gradients)
    groups = [_in_batch(plan, rows, make_side(positives, dims, gradients), [positive_ids, query_ids], positive=True)]
    tower = None
    if same_tower and key_queries is None:
        tower = _in_batch(plan, rows, rows, [query_ids], positive=False)
    elif key_queries is not None:
        groups.append(_in_batch(plan, rows, make_side(key_queries, dims, gradients), [query_ids], positive=False))
    own, own_masked, hard = None, None, None
    if negatives is not None:
        hard = make_side(negatives, dims, gradients)
        sharper = 1.0 + hardness * float(temperature)
        own_ids = None if positive_ids is None else positive_ids[column_offset : column_offset + len(queries)]
        ids = ([], []) if negative_ids is None or own_ids is None else ([own_ids], [negative_ids])
        if negatives.dim() == 3:
            own = Group(hard, False, False, [], [], sharper)
            own_masked = ids[1][0] == ids[0][0][:, None] if ids[0] else None
        else:
            groups.append(Group(hard, False, False, *ids, sharper))
    if margin is not None:
        plan.limit = margin_limit(plan, rows, groups[0].side, margin)
    loss, lse, left_out = _loss_walks(plan, rows, groups, tower, own, own_masked, gradients)
    left_out = left_out.to(loss.dtype) / (len(queries) * len(positives) * (2 if same_tower else 1))
    if not gradients:
        return ChunkedResult(loss, left_out)
    seen = (rows.vectors * rows.gradient).sum()
    if tower is not None:
        same_tower_gradients(plan, rows, tower, lse)
        # Walk 3 adds every pair in both roles; only one of them belongs to the sum over g * logit.
        seen = (seen + (rows.vectors * rows.gradient).sum()) / 2
    return ChunkedResult(
        loss,
        left_out,
        finished(plan, rows, queries),
        finished(plan, groups[0].side, positives),
        finished(plan, groups[1].side, key_queries) if key_queries is not None else None,
        finished(plan, hard, negatives) if hard is not None and negatives is not None else None,
        (-seen * plan.scale).to(temperature.dtype).reshape(temperature.shape),
    )


def _in_batch(plan: Plan, rows: Side, side: Side, ids: Sequence[Tensor | None], *, positive: bool) -> Group:
    """Make a group of the rows' positives, or of other rows' queries."""
    own = slice(plan.offset, plan.offset + len(rows.vectors))
    columns = [values for values in ids if values is not None]
    return Group(side, not positive, positive, [values[own] for values in columns], columns)


def _loss_walks(
    plan: Plan,
    rows: Side,
    groups: list[Group],
    tower: Group | None,
    own: Group | None,
    own_masked: Tensor | None,
    gradients: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Walks 1 and 2: loss, log-sum-exp and how many pairs the margin leaves out."""
    if tower is not None:
        maximum, total, left_out = same_tower_sums(plan, rows, tower)
    else:
        maximum, total = torch.zeros_like(rows.pull), torch.zeros_like(rows.pull)
        left_out = torch.zeros((), dtype=torch.int64, device=plan.device)
        if not plan.plain:
            maximum.fill_(masked_logit(maximum.dtype))
    loss, lse, more = row_walk(plan, rows, groups, own, own_masked, maximum, total, gradients)
    return loss, lse, left_out + more


def _plan(
    queries: Tensor,
    columns: int,
    t: float,
    dims: Sequence[int],
    dim_weights: Sequence[float],
    column_offset: int,
    hardness: float,
) -> Plan:
    limit = PLAIN_EXP_LIMIT if wide(queries.dtype) == torch.float32 else 8 * PLAIN_EXP_LIMIT
    return Plan(
        segments=segments_of(dims),
        weights=[weight / len(queries) for weight in dim_weights],
        scale=1 / t,
        plain=1 / t + hardness <= limit,
        offset=column_offset,
        strip=max(4, min(1024, STRIP_ELEMENTS // columns)),
        device=queries.device,
    )
