"""Attention on a CPU by two batched products around a softmax, for embedders and language models.

PyTorch's fused kernel saves memory, not time, at the lengths of passages: in bf16 the two products are up to twice as
fast, for language models as well (8.7 ms against 19.7 ms for 12 rows of 150 queries, 330 keys and 9 heads; one core of
an AMD Zen 5, torch 2.13). Up to which length they are is measured by ``probe.py``.
"""

from __future__ import annotations

import math
import weakref

import torch
from torch import Tensor

from gecko_core.encode.dropout import dropout as drop


def two_products(
    query: Tensor,  # (B, H, L, d)
    key: Tensor,  # (B, H, S, d)
    value: Tensor,  # (B, H, S, d)
    bias: Tensor | None = None,  # (B, H, L, S) or the same numbers in another shape, such as (B, H * G, L / G, S)
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:  # (B, H, L, d)
    """Softmax attention: ``softmax(scale * query @ key.T + bias) @ value``.

    Query heads that share keys and values (grouped-query attention) need no copies of them: lay the G heads of a group
    out as G * L queries of one head.

    Args:
        query: queries.
        key: keys.
        value: values.
        bias: added to the scores; see :func:`attention_bias`. None where every query sees every key.
        scale: factor of the scores; ``d ** -0.5`` by default.
        dropout: share of the attention weights to drop; needs ``dropout > 0`` in training only.

    Returns:
        The attended values.
    """
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    if bias is None:
        scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=factor)
    else:
        scores = torch.baddbmm(bias.view(len(q), -1, k.shape[1]), q, k.transpose(1, 2), alpha=factor)
    if torch.is_grad_enabled() and scores.requires_grad:
        weights = scores.softmax(-1)
    else:  # in place: fresh memory for the weights takes longer than the softmax
        weights = torch.softmax(scores, -1, out=scores)
    if dropout > 0:
        weights = drop(weights, dropout)
    return torch.bmm(weights, v).unflatten(0, query.shape[:2])


def attention_bias(mask: Tensor, heads: int, dtype: torch.dtype, hidden: float = -math.inf) -> Tensor:
    """Bring a mask into the form that :func:`two_products` adds to its scores.

    Args:
        mask: (B, 1, L, S), True where a query sees a key; or numbers to add, taken as they are.
        heads: number of query heads.
        dtype: of the scores.
        hidden: what is added where a query does not see a key. A query that sees no key at all becomes NaN under the
            default; give ``torch.finfo(dtype).min`` where padding has such queries.

    Returns:
        (B, heads, L, S), contiguous.
    """
    if mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, hidden)
    else:
        bias = mask.to(dtype)
    return bias.expand(-1, heads, -1, -1).contiguous()


class BiasOfLastMask:
    """Remembers the bias of the last mask: a forward pass brings the same mask to every layer.

    Args:
        hidden: see :func:`attention_bias`; None is the lowest number of the dtype.
    """

    def __init__(self, hidden: float | None = None) -> None:
        self._hidden = hidden
        self._last: tuple[weakref.ref[Tensor], Tensor] | None = None

    def __call__(self, mask: Tensor, heads: int, dtype: torch.dtype, keys: int | None = None) -> Tensor:
        """Return the bias of ``mask`` (B, 1, L, S), cut to its first ``keys`` keys: (B, heads, L, keys)."""
        width = mask.shape[3] if keys is None else keys
        last = self._last  # another thread may put its own there meanwhile
        if last is not None and last[0]() is mask:
            bias = last[1]
            if bias.dtype == dtype and bias.shape[1] == heads and bias.shape[3] == width:
                return bias
        hidden = torch.finfo(dtype).min if self._hidden is None else self._hidden
        bias = attention_bias(mask[:, :, :, :width], heads, dtype, hidden)
        self._last = weakref.ref(mask), bias
        return bias
