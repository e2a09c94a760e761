"""Language models (Llama, Qwen, Gemma...) whose causal mask is lifted, so that every token attends to every other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gecko_core.backbones.base import Adapter, attends_by_sdpa, run_packed
from gecko_core.encode.cpu import window
from gecko_core.encode.packing import Packed
from gecko_core.errors import ModelError


class DecoderAdapter(Adapter):
    """Language models made bidirectional: the causal mask is replaced by one that hides padding only."""

    model_types = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"})
    causal = True
    # These pick a mask per layer from a mapping; the others take one mask for all layers.
    _mapped_types = frozenset({"qwen2", "qwen3", "gemma2", "gemma3_text"})
    # These have a switch of their own (EmbeddingGemma's), which vLLM trusts more than `is_causal`.
    _flagged_types = frozenset({"gemma3_text"})

    def prepare(self, model: nn.Module) -> None:
        """Lift the causal mask, in the modules and in the config.

        transformers 5 (hence sentence-transformers) and vLLM read it from config.json and lift the mask too.
        """
        config: Any = model.config
        if config.model_type in self._flagged_types:
            config.use_bidirectional_attention = True
        else:
            config.is_causal = False
        config.use_cache = False
        for module in model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False

    def check_published(self, config: Any, folder: Path) -> None:
        """See :class:`Adapter`: it attends both ways by its own configuration."""
        flagged = config.model_type in self._flagged_types
        lifted = (
            getattr(config, "use_bidirectional_attention", False) if flagged else not getattr(config, "is_causal", True)
        )
        if not lifted:
            raise ModelError(
                f"{folder}: an embedder with a language model's causal mask, which a Gecko lifts; load it with "
                "sentence-transformers (gecko-eval: st:FOLDER), or train from it (Gecko.from_backbone)"
            )

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """See :class:`Adapter`."""
        mask = self._masks(model, attention_mask)
        return model(input_ids=input_ids, attention_mask=mask, use_cache=False, return_dict=True).last_hidden_state

    def packs(self, config: Any) -> bool:
        """See :class:`Adapter`."""
        return attends_by_sdpa(config)

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        """See :class:`Adapter`."""
        config: Any = model.config
        if config.model_type not in self._mapped_types:
            reach = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
            return run_packed(model, batch, window(reach or None), use_cache=False)
        masks = {"full_attention": window(None)}
        if self._slides(config):
            masks["sliding_attention"] = window(self._reach(config))
        return run_packed(model, batch, masks, use_cache=False)

    def _masks(self, model: nn.Module, attention_mask: Tensor) -> Tensor | dict[str, Tensor]:
        """Ready-made masks (B, 1, L or 1, L): transformers takes what has four dimensions as it is."""
        config: Any = model.config
        full = attention_mask.bool()[:, None, None, :]
        if config.model_type == "mistral" and getattr(config, "sliding_window", None):
            return _as_needed(model, full & self._near(config, attention_mask))
        if config.model_type not in self._mapped_types:
            return _as_needed(model, full)
        masks = {"full_attention": _as_needed(model, full)}
        if self._slides(config):
            masks["sliding_attention"] = _as_needed(model, full & self._near(config, attention_mask))
        return masks

    def _near(self, config: Any, attention_mask: Tensor) -> Tensor:
        """Pairs of positions within the sliding window (1, 1, L, L), bounds as transformers 5 draws them."""
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        return ((positions[:, None] - positions[None, :]).abs() <= self._reach(config))[None, None]

    def _reach(self, config: Any) -> int:
        """How many positions a token of a sliding layer sees to each side."""
        return int(config.sliding_window) - (1 if config.model_type in self._flagged_types else 0)

    @staticmethod
    def _slides(config: Any) -> bool:
        return "sliding_attention" in (getattr(config, "layer_types", None) or [])


def _as_needed(model: nn.Module, mask: Tensor) -> Tensor:
    """SDPA takes booleans; eager attention adds its mask to the logits."""
    config: Any = model.config
    if getattr(config, "_attn_implementation", "sdpa") == "sdpa":
        return mask
    dtype = next(model.parameters()).dtype
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
