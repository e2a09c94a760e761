"""Whole numbers as callers give them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_whole"]


def is_whole(value: Any, least: int, most: int = 2**63 - 1) -> bool:
    """Whether a value is a whole number, no truth value, from ``least`` to ``most``."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(least <= value <= most)
