"""Backbones: one adapter per family, and how their weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_core.backbones.loading import (
        gguf_options,
        load_backbone,
        load_tokenizer,
        local_folder,
        quiet,
        quiet_bars,
    )
    from gecko_core.errors import first_line

__all__ = ["first_line", "gguf_options", "load_backbone", "load_tokenizer", "local_folder", "quiet", "quiet_bars"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "first_line": "gecko_core.errors",
        "gguf_options": "gecko_core.backbones.loading",
        "load_backbone": "gecko_core.backbones.loading",
        "load_tokenizer": "gecko_core.backbones.loading",
        "local_folder": "gecko_core.backbones.loading",
        "quiet": "gecko_core.backbones.loading",
        "quiet_bars": "gecko_core.backbones.loading",
    },
)
