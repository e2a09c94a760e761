"""Random numbers that depend on names alone: the same wherever, whenever and in whatever order they are drawn.

The one place that makes generators. A draw is named by what it is for, so that a new draw never shifts another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import IntEnum

import numpy as np

__all__ = ["Stream", "generator", "seed_of", "seeded", "set_generator", "stream_generator", "weighted_order"]


class Stream(IntEnum):
    """Draws that are numbered instead of named: they were before names existed, and runs must stay the same."""

    HOLD_OUT = 1
    CLASSIFICATION = 2
    FRET_NEGATIVES = 3
    CORPUS_SAMPLE = 4
    # The draws of a training mixture carry their names as big-endian bytes.
    MIXTURE_ROWS = int.from_bytes(b"rows", "big")
    MIXTURE_SCHEDULE = int.from_bytes(b"schedule", "big")
    MIXTURE_REMAINDER = int.from_bytes(b"remainder", "big") % 2**63


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable values."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A numpy generator seeded by the names and numbers in ``parts``."""
    return np.random.Generator(np.random.PCG64(seed_of(*parts)))


def seeded(seed: int) -> np.random.Generator:
    """The generator of a bare seed (the bits of ``numpy.random.default_rng``), for work that draws one thing only."""
    return np.random.default_rng(seed)


def stream_generator(seed: int, stream: Stream, *numbers: int) -> np.random.Generator:
    """The generator of one of the numbered draws."""
    return np.random.default_rng([seed, int(stream), *numbers])


def set_generator(seed: int, name: str, *numbers: int) -> np.random.Generator:
    """The generator of draws from one data set, by the set's name."""
    return np.random.default_rng([seed, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16), *numbers])


def weighted_order(weights: Mapping[str, float], *parts: object) -> list[str]:
    """The keys in random order, heavier ones earlier on average (Efraimidis and Spirakis 2006)."""
    numbers = generator(*parts).random(len(weights))
    keys = {name: -np.log1p(-u) / w for (name, w), u in zip(weights.items(), numbers, strict=True) if w > 0}
    return sorted(keys, key=lambda name: keys[name])
