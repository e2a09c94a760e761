"""Choosing the passages that queries are written from."""

from __future__ import annotations

import numpy as np

from gecko_core.randomness import generator
from gecko_fret.corpus.passages import Corpus


def sample_seeds(corpus: Corpus, count: int | None, seed: int) -> list[int]:
    """Rows of `count` passages (None: all), in random order fixed by `seed`.

    Where passages name their `source`, every source gives its share of `count`, by largest remainder.
    """
    total = len(corpus)
    if count is None or count >= total:
        return generator("seeds", seed).permutation(total).tolist()
    sources = corpus.table["source"].to_pylist()
    if len(set(sources)) == 1:
        return generator("seeds", seed).permutation(total)[:count].tolist()
    groups: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        groups.setdefault(source or "", []).append(row)
    names = sorted(groups)
    shares = np.array([len(groups[name]) for name in names]) * (count / total)
    quota = np.floor(shares).astype(int)
    for extra in np.argsort(-(shares - quota), kind="stable")[: count - int(quota.sum())]:
        quota[extra] += 1
    chosen = [
        row
        for name, take in zip(names, quota, strict=True)
        for row in generator("seeds", seed, name).permutation(groups[name])[:take].tolist()
    ]
    return generator("seeds-order", seed).permutation(chosen).tolist()
