"""Masked next-token prediction, which teaches a language model whose causal mask was lifted to look both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.mntp.head import LanguageHead, token_losses
    from gecko_train.mntp.masking import Masked, mask_tokens
    from gecko_train.mntp.sequences import Sequences
    from gecko_train.mntp.training import train_mntp

__all__ = ["LanguageHead", "Masked", "Sequences", "mask_tokens", "token_losses", "train_mntp"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LanguageHead": "gecko_train.mntp.head",
        "Masked": "gecko_train.mntp.masking",
        "Sequences": "gecko_train.mntp.sequences",
        "mask_tokens": "gecko_train.mntp.masking",
        "token_losses": "gecko_train.mntp.head",
        "train_mntp": "gecko_train.mntp.training",
    },
    __all__,
)
