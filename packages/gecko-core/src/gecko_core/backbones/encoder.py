"""Encoders that attend both ways by construction: BERT, RoBERTa, ModernBERT and their kin."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from gecko_core.backbones.base import Adapter, attends_by_sdpa, run_packed
from gecko_core.backbones.fused import fused_states, fuses
from gecko_core.encode.cpu import window
from gecko_core.encode.packing import Packed
from gecko_core.errors import ModelError


class EncoderAdapter(Adapter):
    """Encoders, as they are."""

    model_types = frozenset(
        {"bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta", "camembert", "modernbert"}
    )
    # These number positions from padding_idx + 1, so the first rows of the position table are never reached.
    _offset_types = frozenset({"mpnet", "roberta", "xlm-roberta", "camembert"})

    def prepare(self, model: nn.Module) -> None:
        """Refuse an encoder that was configured as a decoder.

        Raises:
            ModelError: config.json says ``is_decoder``.
        """
        config: Any = model.config
        if getattr(config, "is_decoder", False):
            raise ModelError("config.json says is_decoder; a causal encoder cannot be a backbone")

    def max_length(self, config: Any) -> int | None:
        """See :class:`Adapter`."""
        padding = self.padding_position(config)
        return int(config.max_position_embeddings) - (0 if padding is None else padding + 1)

    def packs(self, config: Any) -> bool:
        """See :class:`Adapter`; MPNet's attention adds a bias by place in the batch."""
        return config.model_type != "mpnet" and attends_by_sdpa(config)

    def fuses(self, model: nn.Module) -> bool:
        """See :class:`Adapter`."""
        return fuses(model)

    def padding_position(self, config: Any) -> int | None:
        """See :class:`Adapter`."""
        if config.model_type == "mpnet":
            return 1  # transformers counts MPNet's positions from 1 whatever its padding token is
        return int(config.pad_token_id) if config.model_type in self._offset_types else None

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        """See :class:`Adapter`."""
        if fuses(model):
            return fused_states(model, batch)
        config: Any = model.config
        masks: Tensor | dict[str, Tensor] = window(None)
        if config.model_type == "modernbert":
            masks = {"full_attention": window(None), "sliding_attention": window(config.sliding_window)}
        return run_packed(model, batch, masks)
