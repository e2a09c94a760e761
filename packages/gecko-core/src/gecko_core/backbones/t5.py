"""The encoder half of T5, mT5 and UMT5 (GTR, Sentence-T5)."""

from __future__ import annotations

from typing import Any

from gecko_core.backbones.base import Adapter


class T5Adapter(Adapter):
    """T5 encoders. They cannot be packed: attention adds a bias by place in the batch."""

    model_types = frozenset({"t5", "mt5", "umt5"})

    def model_class(self) -> Any:
        """Return the class of the encoder half; ``AutoModel`` would load the decoder as well."""
        import transformers

        names = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
        return getattr(transformers, names[self.model_type])

    def max_length(self, config: Any) -> int | None:
        """Return None: relative positions have no limit."""
        return None
