"""Which Hugging Face models a Gecko can stand on."""

from __future__ import annotations

from pathlib import Path

from gecko_core.backbones.base import Adapter
from gecko_core.backbones.decoder import DecoderAdapter
from gecko_core.backbones.encoder import EncoderAdapter
from gecko_core.backbones.t5 import T5Adapter
from gecko_core.errors import ModelError

#: One adapter per family of backbones. To add a family, write its adapter in a file of its own and name it here.
ADAPTERS: tuple[type[Adapter], ...] = (
    EncoderAdapter,
    T5Adapter,
    DecoderAdapter,
)


def adapter_for(model_type: str, where: str | Path = "") -> Adapter:
    """Return the adapter of a model type.

    Args:
        model_type: Hugging Face's name of the architecture, as config.json has it.
        where: the file that says so, for the message.

    Returns:
        A new adapter.

    Raises:
        ModelError: a type that is not supported.
    """
    for adapter in ADAPTERS:
        if model_type in adapter.model_types:
            return adapter(model_type)
    known = ", ".join(sorted(frozenset().union(*(adapter.model_types for adapter in ADAPTERS))))
    raise ModelError(
        f"{where or 'config.json'}: model_type {model_type!r} is not supported as a backbone; use one of: {known}"
    )
