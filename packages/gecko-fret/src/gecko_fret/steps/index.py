"""Nearest neighbours by inner product: exact search in blocks, and hnswlib for very large corpora."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gecko_core.search import top_k

Blocks = Sequence[np.ndarray]  # float32 (n_i, D) each, unit rows, memory-mapped or not


class Index(Protocol):
    """Finds, for every query, the `count` rows of largest inner product."""

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """queries (Q, D) float32 -> rows (Q, count) int64 and similarities (Q, count) float32, best first."""
        ...


class ExactIndex:
    """Brute force over blocks (`gecko_core.search`): the default and the oracle.

    Similarities and their order depend on the vectors alone; equal similarities are ordered by row.
    """

    def __init__(self, blocks: Blocks, device: str | None = None):
        self._blocks, self._device = blocks, device

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        return top_k(queries, self._blocks, count, device=self._device)


def refine(blocks: Blocks, queries: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidate rows (Q, C) by similarities computed in fp64 and rounded to float32, as exact search does."""
    starts = np.cumsum([0] + [len(block) for block in blocks])
    values = np.empty(rows.shape, dtype=np.float32)
    for place, (query, chosen) in enumerate(zip(queries, rows, strict=True)):
        owners = np.searchsorted(starts, chosen, side="right") - 1
        vectors = np.stack([blocks[owner][row - starts[owner]] for owner, row in zip(owners, chosen, strict=True)])
        values[place] = np.multiply(query, vectors, dtype=np.float64).sum(axis=1)
    order = np.lexsort((rows, -values), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)


class HnswIndex:
    """hnswlib's graph over the same blocks: approximate, with query time that hardly grows with the corpus.

    repeatable: build on one thread. The graph of a build on many threads differs from run to run.
    """

    def __init__(
        self, blocks: Blocks, *, repeatable: bool = True, links: int = 32, breadth: int = 200, search_breadth: int = 128
    ):
        import hnswlib

        self._blocks = blocks
        self.size = sum(len(block) for block in blocks)
        self._index = hnswlib.Index(space="ip", dim=blocks[0].shape[1])
        self._index.init_index(max_elements=self.size, ef_construction=breadth, M=links, random_seed=100)
        self._search_breadth = search_breadth
        start = 0
        for block in blocks:
            numbers = np.arange(start, start + len(block))
            self._index.add_items(np.asarray(block), numbers, num_threads=1 if repeatable else -1)
            start += len(block)

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        count = min(count, self.size)
        self._index.set_ef(max(self._search_breadth, 2 * count))
        rows, _ = self._index.knn_query(np.asarray(queries, dtype=np.float32), k=count, num_threads=1)
        return refine(self._blocks, queries, rows.astype(np.int64))


def make_index(blocks: Blocks, kind: str, *, hnsw_above: int, repeatable: bool, device: str | None = None) -> Index:
    """Exact or hnsw by name; "auto" by the number of rows."""
    size = sum(len(block) for block in blocks)
    if kind == "hnsw" or (kind == "auto" and size > hnsw_above):
        return HnswIndex(blocks, repeatable=repeatable)
    return ExactIndex(blocks, device)


def recall(index: Index, blocks: Blocks, count: int, sample: int = 200, seed: int = 0) -> float:
    """Share of the exact `count` neighbours that `index` finds, for `sample` rows of the corpus as queries."""
    size = sum(len(block) for block in blocks)
    chosen = np.sort(np.random.default_rng(seed).permutation(size)[:sample])
    starts = np.cumsum([0] + [len(block) for block in blocks])
    owners = np.searchsorted(starts, chosen, side="right") - 1
    queries = np.stack([blocks[owner][row - starts[owner]] for owner, row in zip(owners, chosen, strict=True)])
    exact, _ = ExactIndex(blocks).search(queries, count)
    found, _ = index.search(queries, count)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
    return float(np.sum(hits) / exact.size)
