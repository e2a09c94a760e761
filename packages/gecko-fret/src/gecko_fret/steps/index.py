"""Nearest neighbours by inner product: exact search over blocks, and hnswlib for very large corpora."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gecko_core.randomness import seeded
from gecko_core.search import top_k

Blocks = Sequence[np.ndarray]  # float32 (n_i, D) each, unit rows, memory-mapped or not


class Index(Protocol):
    """Finds the rows with the largest inner products."""

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Search the ``count`` nearest rows of every query.

        Args:
            queries: (Q, D) float32.
            count: neighbours per query.

        Returns:
            Rows (Q, count) int64 and similarities (Q, count) float32, best first.
        """
        ...


class ExactIndex:
    """Brute force over blocks (``gecko_core.search``): the default, and what other indexes are measured against.

    Similarities and their order depend on the vectors alone; equal similarities are ordered by row.

    Args:
        blocks: the vectors.
        device: where to multiply.
    """

    def __init__(self, blocks: Blocks, device: str | None = None):
        self._blocks, self._device = blocks, device

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Index``."""
        return top_k(queries, self._blocks, count, device=self._device)


def refine(blocks: Blocks, queries: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order candidate rows (Q, C) by similarities computed in fp64 and rounded to float32, as exact search does."""
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

    Args:
        blocks: the vectors.
        repeatable: build on one thread; graphs built on many threads differ from run to run.
        links: hnswlib's M.
        breadth: hnswlib's ef_construction.
        search_breadth: hnswlib's ef, at least.
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
        """See ``Index``."""
        count = min(count, self.size)
        self._index.set_ef(max(self._search_breadth, 2 * count))
        rows, _ = self._index.knn_query(np.asarray(queries, dtype=np.float32), k=count, num_threads=1)
        return refine(self._blocks, queries, rows.astype(np.int64))


def make_index(blocks: Blocks, kind: str, *, hnsw_above: int, repeatable: bool, device: str | None = None) -> Index:
    """Make the index that ``kind`` names (exact, hnsw); "auto" takes hnsw above ``hnsw_above`` rows."""
    size = sum(len(block) for block in blocks)
    if kind == "hnsw" or (kind == "auto" and size > hnsw_above):
        return HnswIndex(blocks, repeatable=repeatable)
    return ExactIndex(blocks, device)


def recall(index: Index, blocks: Blocks, count: int, sample: int = 200, seed: int = 0) -> float:
    """Share of the exact ``count`` neighbours that ``index`` finds, for ``sample`` rows of the corpus as queries."""
    size = sum(len(block) for block in blocks)
    chosen = np.sort(seeded(seed).permutation(size)[:sample])
    starts = np.cumsum([0] + [len(block) for block in blocks])
    owners = np.searchsorted(starts, chosen, side="right") - 1
    queries = np.stack([blocks[owner][row - starts[owner]] for owner, row in zip(owners, chosen, strict=True)])
    exact, _ = ExactIndex(blocks).search(queries, count)
    approximate, _ = index.search(queries, count)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, approximate, strict=True)]
    return float(np.sum(hits) / exact.size)
