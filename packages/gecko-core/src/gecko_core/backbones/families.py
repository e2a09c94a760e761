"""Backbones: which Hugging Face models a Gecko can stand on, and the little that differs between them.

Three kinds. *Encoders* (BERT, RoBERTa, ModernBERT...) attend both ways as they are. *T5 encoders* are the encoder half
of a T5 (GTR, Sentence-T5). *Decoders* (Llama, Qwen, Gemma...) are language models whose causal mask is lifted, so that
every token attends to every other. An adapter knows how to load one kind and how to run it; everything else is shared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gecko_core.encode.cpu import Compute, window
from gecko_core.encode.packing import Packed
from gecko_core.errors import ModelError

DEFAULT_MAX_LENGTH = 512


class Adapter(Protocol):
    """What a Gecko asks of one kind of backbone."""

    model_types: frozenset[str]

    def model_class(self) -> Any:
        """The transformers class whose `from_pretrained` gives the bare backbone."""

    def prepare(self, model: nn.Module) -> None:
        """Changes the freshly loaded or built model in place, once."""

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Last hidden states of right-padded input: (B, L), (B, L) -> (B, L, D)."""

    def max_length(self, config: Any) -> int | None:
        """The most tokens the backbone can position, None where there is no limit."""

    def packs(self, config: Any) -> bool:
        """Whether the backbone can run without padding: its positions can be given, and it attends by SDPA."""

    def padding_position(self, config: Any) -> int | None:
        """See `gecko_core.encode.packing.packed`."""

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        """Last hidden states (T, D) of texts laid end to end, as if each were alone. Asked only where `packs`."""


class EncoderAdapter:
    """Encoders that attend both ways by construction."""

    model_types = frozenset(
        {"bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "camembert", "modernbert"}
    )
    # These number positions from padding_idx + 1, so two rows of the position table are never reached.
    offset_types = frozenset({"mpnet", "roberta", "xlm-roberta", "camembert"})

    def model_class(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    def prepare(self, model: nn.Module) -> None:
        config: Any = model.config
        if getattr(config, "is_decoder", False):
            raise ModelError(f"{config.model_type}: config.json says is_decoder; a causal encoder cannot be a backbone")

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state

    def max_length(self, config: Any) -> int | None:
        positions = int(config.max_position_embeddings)
        return positions - 2 if config.model_type in self.offset_types else positions

    def packs(self, config: Any) -> bool:
        # MPNet's attention adds a bias by place in the batch.
        return config.model_type != "mpnet" and _by_sdpa(config)

    def padding_position(self, config: Any) -> int | None:
        return int(config.pad_token_id) if config.model_type in self.offset_types else None

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        config: Any = model.config
        masks: Tensor | dict[str, Tensor] = window(None)
        if config.model_type == "modernbert":
            masks = {"full_attention": window(None), "sliding_attention": window(config.sliding_window)}
        return _run_packed(model, batch, masks)


class T5Adapter:
    """The encoder half of T5, mT5 and UMT5. Relative positions: no limit on the length."""

    model_types = frozenset({"t5", "mt5", "umt5"})

    def __init__(self, model_type: str = "t5") -> None:
        self.model_type = model_type

    def model_class(self) -> Any:
        import transformers

        names = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
        return getattr(transformers, names[self.model_type])

    def prepare(self, model: nn.Module) -> None:
        return None

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state

    def max_length(self, config: Any) -> int | None:
        return None

    def packs(self, config: Any) -> bool:
        return False  # attention adds a bias by place in the batch

    def padding_position(self, config: Any) -> int | None:
        return None

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        raise ModelError(f"{self.model_type}: cannot run without padding")


class DecoderAdapter:
    """Language models made bidirectional: the causal mask is replaced by one that hides padding only."""

    model_types = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"})
    # These pick a mask per layer from a mapping; the others take one mask for all layers.
    mapped_types = frozenset({"qwen2", "qwen3", "gemma2", "gemma3_text"})
    # These have a switch of their own (EmbeddingGemma's), which vLLM trusts more than `is_causal`.
    flagged_types = frozenset({"gemma3_text"})

    def model_class(self) -> Any:
        from transformers import AutoModel

        return AutoModel

    def prepare(self, model: nn.Module) -> None:
        config: Any = model.config
        # Written into config.json, so that transformers 5 (hence sentence-transformers) and vLLM lift the mask too.
        if config.model_type in self.flagged_types:
            config.use_bidirectional_attention = True
        else:
            config.is_causal = False
        config.use_cache = False
        for module in model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = self._masks(model, attention_mask)
        return model(input_ids=input_ids, attention_mask=mask, use_cache=False, return_dict=True).last_hidden_state

    def max_length(self, config: Any) -> int | None:
        return int(config.max_position_embeddings)

    def packs(self, config: Any) -> bool:
        return _by_sdpa(config)

    def padding_position(self, config: Any) -> int | None:
        return None

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        config: Any = model.config
        if config.model_type not in self.mapped_types:
            reach = getattr(config, "sliding_window", None) if config.model_type == "mistral" else None
            return _run_packed(model, batch, window(reach or None), use_cache=False)
        masks = {"full_attention": window(None)}
        if "sliding_attention" in (getattr(config, "layer_types", None) or []):
            masks["sliding_attention"] = window(self._reach(config))
        return _run_packed(model, batch, masks, use_cache=False)

    def _masks(self, model: nn.Module, attention_mask: Tensor) -> Tensor | dict[str, Tensor]:
        """Ready-made masks (B, 1, L or 1, L): transformers takes what has four dimensions as it is."""
        config: Any = model.config
        full = attention_mask.bool()[:, None, None, :]
        window = getattr(config, "sliding_window", None)
        if config.model_type == "mistral" and window:
            return self._as_needed(model, full & self._near(config, attention_mask))
        if config.model_type not in self.mapped_types:
            return self._as_needed(model, full)
        masks = {"full_attention": self._as_needed(model, full)}
        if "sliding_attention" in (getattr(config, "layer_types", None) or []):
            masks["sliding_attention"] = self._as_needed(model, full & self._near(config, attention_mask))
        return masks

    def _near(self, config: Any, attention_mask: Tensor) -> Tensor:
        """Pairs of positions within the sliding window (1, 1, L, L), bounds as transformers 5 draws them."""
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        return ((positions[:, None] - positions[None, :]).abs() <= self._reach(config))[None, None]

    def _reach(self, config: Any) -> int:
        """How many positions a token of a sliding layer sees to each side."""
        return int(config.sliding_window) - (1 if config.model_type in self.flagged_types else 0)

    @staticmethod
    def _as_needed(model: nn.Module, mask: Tensor) -> Tensor:
        """SDPA takes booleans; eager attention adds its mask to the logits."""
        if getattr(model.config, "_attn_implementation", "sdpa") == "sdpa":
            return mask
        dtype = next(model.parameters()).dtype
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def _by_sdpa(config: Any) -> bool:
    """Whether attention is PyTorch's, called in the way of transformers 5."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5 and getattr(config, "_attn_implementation", "") == "sdpa"


def _run_packed(model: nn.Module, batch: Packed, masks: Tensor | dict[str, Tensor], **options: Any) -> Tensor:
    with Compute(batch.tiles):
        output = model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            attention_mask=masks,
            return_dict=True,
            **options,
        )
    return output.last_hidden_state[0]


def adapter_for(model_type: str, where: str | Path = "") -> Adapter:
    """The adapter of a Hugging Face `model_type`. Raises `ModelError` for a type we have not made sure of."""
    if model_type in EncoderAdapter.model_types:
        return EncoderAdapter()
    if model_type in T5Adapter.model_types:
        return T5Adapter(model_type)
    if model_type in DecoderAdapter.model_types:
        return DecoderAdapter()
    known = ", ".join(sorted(EncoderAdapter.model_types | T5Adapter.model_types | DecoderAdapter.model_types))
    raise ModelError(
        f"{where or 'config.json'}: model_type {model_type!r} is not supported as a backbone; use one of: {known}"
    )
