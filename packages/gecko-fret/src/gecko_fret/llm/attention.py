"""Attention for language models on CPU, without copying keys and values for every query head."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

_NAME = "gecko_grouped_sdpa"
# Up to so many keys two bf16 products around a softmax beat the fused kernel: 8.7 ms against 19.7 ms for 12 rows of 150
# queries, 330 keys and 9 heads (one core, AMD Zen 5, torch 2.13). Beyond, the scores would take too much memory.
_SHORT = 1024


def grouped_sdpa(
    module: Any,
    query: Tensor,  # (B, G * H, L, D)
    key: Tensor,  # (B, H, S, D)
    value: Tensor,  # (B, H, S, D)
    attention_mask: Tensor | None,  # (B, 1, L, S)
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention with the G query heads of a key head laid out as G * L queries of that head.

    transformers repeats keys and values G times where there is a mask; when decoding, that copy costs several times
    the attention itself (12.4 ms against 2.6 ms a layer for 32 rows of 350 keys, bf16, one CPU core).
    """
    rows, heads, length, width = query.shape
    groups = heads // key.shape[1]
    short = query.dtype == torch.bfloat16 and 1 < length <= key.shape[2] <= _SHORT
    if attention_mask is None or (groups == 1 and not short):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    mask = attention_mask[:, :, :, : key.shape[2]]
    grouped = query.reshape(rows, key.shape[1], groups * length, width)
    if short:
        attended = _two_products(grouped, key, value, _bias(attention_mask, mask, heads, query.dtype), scaling)
    else:
        attended = torch.nn.functional.scaled_dot_product_attention(
            grouped, key, value, attn_mask=mask.repeat(1, 1, groups, 1), scale=scaling
        )
    return attended.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


def _two_products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float | None) -> Tensor:
    q, k, v = (x.flatten(0, 1) for x in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.baddbmm(bias.view(len(q), -1, k.shape[1]), q, k.transpose(1, 2), alpha=factor)
    return torch.bmm(scores.softmax(-1), v).view_as(query)


# The mask that came last and its bias: a forward pass brings the same mask to every layer.
_last: tuple[weakref.ref[Tensor], Tensor] | None = None


def _bias(given: Tensor, mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:  # (B, 1, L, S) -> (B, heads, L, S)
    global _last
    last = _last  # another thread may put its own there meanwhile
    if last is not None and last[0]() is given and last[1].shape[1:] == (heads, *mask.shape[2:]):
        return last[1]
    bias = torch.zeros(mask.shape, dtype=dtype)
    # A query that sees no key (padding) would be NaN; it is read by nobody.
    bias = bias.masked_fill_(~mask, torch.finfo(dtype).min) if mask.dtype == torch.bool else mask.to(dtype)
    bias = bias.expand(-1, heads, -1, -1).contiguous()
    _last = weakref.ref(given), bias
    return bias


def grouped_attention(device: torch.device) -> str:
    """Name of the attention for `attn_implementation=`: ours on CPU, the library's elsewhere."""
    if device.type != "cpu":
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, grouped_sdpa)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    return _NAME
