"""What kind of network a language model is, told by short passes: what it makes of masks, gaps and padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gecko_fret.llm.decoder import Decoder

#: What networks raise that cannot be run in the way that is tried.
_CANNOT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)
#: Share of the change that other tokens make which padding may make: SmolLM2-135M has 2e-6, and 0.03 in bf16.
_ROUNDING = {torch.float32: 1e-3}
_COARSE_ROUNDING = 0.1


@torch.inference_mode()
def head_is_whole(decoder: Decoder, model: Any) -> bool:
    """Whether ``decoder.logits`` gives the model's own logits: models may scale or cap them after the output layer.

    Args:
        decoder: the network.
        model: the causal language model of transformers that it is of.
    """
    ids = torch.arange(4, device=decoder.device)[None]
    ones = torch.ones_like(ids)  # without them another kernel of attention may run, which rounds otherwise
    expected = model(input_ids=ids, attention_mask=ones, use_cache=False).logits[0, -1].float().log_softmax(-1)
    hidden = decoder.forward(ids, ones, ids, None)[0, -1:]
    rounding = 1e-5 if decoder.dtype == torch.float32 else 0.02  # of logits of 16 and more in bf16: 0.06 and more
    return torch.allclose(decoder.logits(hidden)[0].log_softmax(-1), expected, atol=0.05, rtol=rounding)


def counts_keys(decoder: Decoder) -> bool:
    """Whether padding between a context and a text counts as distance (ALiBi) or as tokens."""
    alone, gap, other = _text_after_gap(decoder)
    rounding = _ROUNDING.get(decoder.dtype, _COARSE_ROUNDING)
    return bool((gap - alone).norm() > rounding * (other - alone).norm())


def obeys_masks(decoder: Decoder) -> bool:
    """Whether, of two texts side by side after a context, the second one comes out as it does alone."""
    try:
        alone, kept_apart, mixed = _second_text(decoder)
    except _CANNOT:  # models that make something of their own of the mask (ALiBi) cannot read one of four dimensions
        return False
    return _nearer(kept_apart, mixed, alone)


def states_bear_padding(decoder: Decoder) -> bool:
    """Whether a text comes out the same alone, and padded on the left in a batch whose other row leaves it."""
    try:
        alone, padded, other = _padded_text(decoder)
    except _CANNOT:
        return False
    return _nearer(padded, other, alone)


def _nearer(one: Tensor, other: Tensor, target: Tensor) -> bool:
    """Whether ``one`` is at most a quarter as far from the target as ``other``; rounding in bf16 is far below."""
    return bool((one - target).norm() < (other - target).norm() / 4)


@torch.inference_mode()
def _text_after_gap(decoder: Decoder) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden state of a short text after a context: alone, behind padding, and behind other tokens."""
    from transformers import DynamicCache

    padding = 32
    places = torch.arange(padding + 7, device=decoder.device)[None]
    ids, mask, cache = places % 9, torch.ones_like(places), DynamicCache()
    short = torch.cat([ids[:, :4], ids[:, -3:]], 1)
    alone = decoder.forward(short, mask[:, :7], places[:, :7], None)
    other = decoder.forward(ids, mask, places, None)
    decoder.forward(ids[:, :4], mask[:, :4], places[:, :4], cache)
    mask[:, 4:-3] = 0
    gap = decoder.forward(ids[:, 4:], mask, (mask.cumsum(1) - 1)[:, 4:], cache)
    return _last(alone), _last(gap), _last(other)


@torch.inference_mode()
def _second_text(decoder: Decoder) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden state of a short text after a context: alone, beside another one, and seeing the other one."""
    from transformers import DynamicCache

    ids = torch.arange(10, device=decoder.device)[None]
    context, first, second = ids[:, :4], ids[:, 4:7], ids[:, 7:]
    places, ones = torch.arange(7, device=decoder.device)[None], torch.ones_like(ids)
    alone = decoder.forward(torch.cat([context, second], 1), ones[:, :7], places, None)
    cache = DynamicCache()
    decoder.forward(context, ones[:, :4], places[:, :4], cache)
    causal = ones.bool().expand(6, 10).tril(4)
    apart = causal.clone()
    apart[3:, 4:7] = False
    rows = torch.zeros(1, dtype=torch.int64, device=decoder.device)
    both, both_places = torch.cat([first, second], 1), places[:, 4:].repeat(1, 2)
    apart_states, mixed_states = (
        decoder.forward(both, seen[None, None], both_places, decoder.continued(cache, rows)) for seen in (apart, causal)
    )
    return _last(alone), _last(apart_states), _last(mixed_states)


@torch.inference_mode()
def _padded_text(decoder: Decoder) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden state of a text: alone, padded and carried on beside another one, and that of another text."""
    ids = torch.arange(9, device=decoder.device)
    mask, places = torch.ones(2, 9, dtype=torch.int64, device=decoder.device), ids[None]
    alone, other = (
        decoder.forward(text[None], mask[:1, : len(text)], places[:, : len(text)], None) for text in (ids[3:], ids)
    )
    cache, _ = decoder.prefix_cache([None, None])
    rows = ids[:8].repeat(2, 1)
    rows[1, :3] = mask[1, :3] = 0
    decoder.forward(rows, mask[:, :8], (mask[:, :8].cumsum(1) - 1).clamp(min=0), cache)
    decoder.keep_rows(cache, ids[1:2])
    padded = decoder.forward(ids[None, 8:], mask[1:], places[:, 5:6], cache)
    return _last(alone), _last(padded), _last(other)


def _last(hidden: Tensor) -> Tensor:
    return hidden[0, -1].float()
