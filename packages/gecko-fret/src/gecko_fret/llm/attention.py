"""Attention for grouped-query models on CPU, without copying keys and values for every query head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NAME = "gecko_grouped_sdpa"


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
    if groups == 1 or attention_mask is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    mask = attention_mask[:, :, :, : key.shape[2]].repeat(1, 1, groups, 1)
    grouped = query.reshape(rows, key.shape[1], groups * length, width)
    attended = torch.nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return attended.reshape(rows, heads, length, width).transpose(1, 2).contiguous(), None


def grouped_attention(device: torch.device) -> str:
    """Name of the attention for `attn_implementation=`: ours on CPU, the library's elsewhere."""
    if device.type != "cpu":
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, grouped_sdpa)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    return _NAME
