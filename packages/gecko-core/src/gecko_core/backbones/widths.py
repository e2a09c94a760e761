"""Widths of a backbone and of its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gecko_core.errors import ConfigError


def hidden_size(config: Any) -> int:
    """Width of the backbone's hidden states; T5 calls it d_model."""
    return int(getattr(config, "d_model", None) or config.hidden_size)


def checked_dims(dims: Sequence[int], dim: int | None = None) -> tuple[int, ...]:
    """Matryoshka widths, descending, the first of them `dim`. Raises `ConfigError`."""
    if not dims or any(isinstance(d, bool) or not isinstance(d, int) or d < 1 for d in dims):
        raise ConfigError(f"dims must be positive whole numbers, not {dims!r}")
    chosen = tuple(sorted(set(dims), reverse=True))
    if dim is not None and chosen[0] != dim:
        raise ConfigError(f"dims {chosen}: the largest must be the model's own width, {dim}")
    return chosen
