"""Keys and values computed before, read by rows of a later forward pass and left as they are."""

from __future__ import annotations

from typing import Any

from torch import Tensor, cat
from transformers import DynamicCache


class SelectedRows(DynamicCache):
    """A cache that reads rows of another one, any of them several times, and keeps nothing of what comes after.

    A layer's keys and values are copied when the layer is computed, and given up with it: several passes can read one
    cache, and none of them holds a second one.

    Args:
        cache: keys and values of earlier tokens.
        rows: (B,) int64, for every row of the pass the row of ``cache`` that it goes on from.
    """

    def __init__(self, cache: Any, rows: Tensor):
        super().__init__()
        self.layers, self._rows = cache.layers, rows

    def update(
        self,
        key_states: Tensor,  # (B, H, L, D)
        value_states: Tensor,  # (B, H, L, D)
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:  # (B, H, S + L, D) each
        """See ``transformers.Cache``: earlier and new keys and values."""
        layer = self.layers[layer_idx]
        return (
            cat([layer.keys[self._rows], key_states], dim=2),
            cat([layer.values[self._rows], value_states], dim=2),
        )
