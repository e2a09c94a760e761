"""The margin mask of a strip: in-batch pairs that beat the row's own positive by a margin do not count.

The last prefix of a plan with a margin is the full width. Its logits, which every walk computes anyway, decide, so a
mask costs a comparison and a byte per element of the strip, and no product.
"""

from __future__ import annotations

from torch import Tensor

from gecko_kernels.cpu.strips import Plan, Side, masked_logit


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
