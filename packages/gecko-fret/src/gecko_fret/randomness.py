"""Random numbers that depend on names alone: the same wherever, whenever and in whatever order they are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable values."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A numpy generator seeded by `parts`."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))


def weighted_order(weights: Mapping[str, float], *parts: object) -> list[str]:
    """The keys in random order, heavier ones earlier on average (Efraimidis and Spirakis 2006)."""
    numbers = generator(*parts).random(len(weights))
    keys = {name: -np.log1p(-u) / w for (name, w), u in zip(weights.items(), numbers, strict=True) if w > 0}
    return sorted(keys, key=lambda name: keys[name])
