"""Backbones: one adapter per family, and how their weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_core.backbones.base import Adapter
    from gecko_core.backbones.files import (
        check_folder,
        check_tokenizer_files,
        check_weights,
        model_errors,
        named_attention,
    )
    from gecko_core.backbones.loading import (
        LOADING_INFO,
        check_loaded,
        check_modules,
        check_unknown,
        gguf_options,
        quiet,
        quiet_bars,
    )
    from gecko_core.backbones.output import output_weight
    from gecko_core.backbones.registry import ADAPTERS, adapter_for

__all__ = [
    "ADAPTERS",
    "LOADING_INFO",
    "Adapter",
    "adapter_for",
    "check_folder",
    "check_loaded",
    "check_modules",
    "check_tokenizer_files",
    "check_unknown",
    "check_weights",
    "gguf_options",
    "model_errors",
    "named_attention",
    "output_weight",
    "quiet",
    "quiet_bars",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ADAPTERS": "gecko_core.backbones.registry",
        "LOADING_INFO": "gecko_core.backbones.loading",
        "Adapter": "gecko_core.backbones.base",
        "adapter_for": "gecko_core.backbones.registry",
        "check_folder": "gecko_core.backbones.files",
        "check_loaded": "gecko_core.backbones.loading",
        "check_modules": "gecko_core.backbones.loading",
        "check_tokenizer_files": "gecko_core.backbones.files",
        "check_unknown": "gecko_core.backbones.loading",
        "check_weights": "gecko_core.backbones.files",
        "gguf_options": "gecko_core.backbones.loading",
        "model_errors": "gecko_core.backbones.files",
        "named_attention": "gecko_core.backbones.files",
        "output_weight": "gecko_core.backbones.output",
        "quiet": "gecko_core.backbones.loading",
        "quiet_bars": "gecko_core.backbones.loading",
    },
    __all__,
)
