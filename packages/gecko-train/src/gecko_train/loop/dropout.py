"""Dropout of attention weights during training: language models come with none, unsupervised SimCSE lives on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from gecko_core.errors import ConfigError

_SHARE, _MODULE = "attention_dropout", "dropout"  # where transformers' attention keeps it, by family


@contextmanager
def attention_dropout(model: nn.Module, share: float | None) -> Iterator[None]:
    """Drop this share of the attention weights while training; afterwards the model is as it was.

    Args:
        model: in training mode where it is to be dropped.
        share: None: what the model comes with.

    Yields:
        Nothing.

    Raises:
        ConfigError: the backbone's attention has no dropout.
    """
    before = [] if share is None else list(_places(model))
    if share is not None and not before:
        raise ConfigError("trainer.attention_dropout: this backbone's attention knows no dropout; leave it out")
    try:
        for holder, name, _ in before:
            setattr(holder, name, share)
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


def _places(model: nn.Module) -> Iterator[tuple[Any, str, float]]:
    """What holds each layer's share, under which name, and its value."""
    for module in model.modules():
        if "Attention" not in type(module).__name__:
            continue
        held: Any = getattr(module, _MODULE, None)
        if isinstance(getattr(module, _SHARE, None), float | int):
            yield module, _SHARE, float(getattr(module, _SHARE))
        elif isinstance(held, nn.Dropout):
            yield held, "p", held.p
