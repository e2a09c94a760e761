"""The Gecko loss without likely false negatives: in-batch negatives that beat the positive by a margin do not count.

Qwen3-Embedding (arXiv 2506.05176) masks in-batch pairs with s(q_i, x_j) > s(q_i, p_i) + 0.1. The kernels know masks by
id only; this dense version costs B x 2B logits and otherwise follows their reference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gecko_kernels._arguments import check_loss
from gecko_kernels.reference import prefix_logits, unit

_DEFAULTS: dict[str, Any] = {
    "dims": None, "dim_weights": None, "same_tower": True, "negatives_scope": "own", "query_ids": None,
    "positive_ids": None, "negative_ids": None, "key_queries": None, "column_offset": 0, "hardness": 0.0,
}  # fmt: skip


def margin_loss(
    queries: Tensor,  # (B, D)
    positives: Tensor,  # (B, D)
    negatives: Tensor | None,  # (B, H, D)
    *,
    margin: float,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """The loss of ``gecko_kernels.same_tower_softmax_loss`` with the margin mask, and the share of pairs it left out.

    Whether a pair counts is decided at full width, without gradient, and holds for every Matryoshka prefix. A row's
    own hard negatives always count: they were filtered when they were mined.

    Args:
        margin: a cosine difference, at least 0.
        options: as of ``same_tower_softmax_loss``.
    """
    arguments = check_loss(queries, positives, negatives, **{**_DEFAULTS, **options})
    masked = _too_near(queries, positives, margin, arguments.same_tower)
    loss = queries.new_zeros(())
    for dim, weight in zip(arguments.dims, arguments.dim_weights, strict=True):
        logits, own = prefix_logits(arguments, dim)
        rest = masked.new_zeros((len(logits), logits.shape[1] - masked.shape[1]))  # hard negatives come last
        logits = logits.masked_fill(torch.cat([masked, rest], 1), -torch.inf)
        loss = loss + weight * (logits.logsumexp(1) - own).mean()
    return loss, masked.float().mean()


@torch.no_grad()
def _too_near(queries: Tensor, positives: Tensor, margin: float, same_tower: bool) -> Tensor:
    q, p = unit(queries.detach().float()), unit(positives.detach().float())
    limit = (q * p).sum(1, keepdim=True) + margin
    itself = torch.eye(len(q), dtype=torch.bool, device=q.device)
    found = [(q @ p.T > limit) & ~itself]
    if same_tower:
        found.append((q @ q.T > limit) & ~itself)
    return torch.cat(found, 1)
