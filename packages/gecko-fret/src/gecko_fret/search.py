"""Nearest neighbours by inner product: exact search in blocks, and hnswlib for very large corpora."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

Blocks = Sequence[np.ndarray]  # float32 (n_i, D) each, unit rows, memory-mapped or not

_MARGIN = 32  # found in fp32 beyond what is asked for, so that rounding cannot lose a neighbour
_QUERIES = 64  # refined together


class Index(Protocol):
    """Finds, for every query, the `count` rows of largest inner product."""

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """queries (Q, D) float32 -> rows (Q, count) int64 and similarities (Q, count) float32, best first."""
        ...


class ExactIndex:
    """Brute force over blocks: the default and the oracle. One block of similarities is in memory at a time.

    Matrix products in fp32 differ in their last bits with the number of threads and the size of a block. The nearest
    rows are therefore computed again in fp64: similarities and their order depend on the vectors alone. Equal
    similarities are ordered by row.
    """

    def __init__(self, blocks: Blocks, device: str | None = None):
        self._blocks, self._device = blocks, torch.device(device or "cpu")
        self.size = sum(len(block) for block in blocks)

    @torch.inference_mode()
    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        wide = min(count + _MARGIN, self.size)
        wanted = torch.from_numpy(np.ascontiguousarray(queries, dtype=np.float32)).to(self._device)
        best = torch.empty(len(wanted), 0, device=self._device)
        rows = torch.empty(len(wanted), 0, dtype=torch.int64, device=self._device)
        start = 0
        for block in self._blocks:
            # A copy: torch cannot take the read-only pages of a memory map, and a block is small.
            vectors = torch.from_numpy(np.array(block, dtype=np.float32)).to(self._device)
            similarities, places = _first(wanted @ vectors.T, min(wide, len(block)))
            best, rows = torch.cat([best, similarities], 1), torch.cat([rows, places + start], 1)
            best, places = _first(best, min(wide, best.shape[1]))
            rows = rows.gather(1, places)
            start += len(block)
        return refine(self._blocks, queries, rows.cpu().numpy(), count)


def _first(similarities: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of every row and their places; of equals at the border, those that come first."""
    values, places = similarities.topk(count, dim=1)
    tied = ((similarities >= values[:, -1:]).sum(1) > count).nonzero()[:, 0]  # topk takes any of the equals
    if len(tied):
        ordered, order = similarities[tied].sort(dim=1, descending=True, stable=True)
        values[tied], places[tied] = ordered[:, :count], order[:, :count]
    return values, places


def refine(blocks: Blocks, queries: np.ndarray, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidate rows (Q, C) by similarities computed in fp64 and rounded to float32; the first `count`."""
    starts = np.cumsum([0] + [len(block) for block in blocks])
    values = np.empty(rows.shape, dtype=np.float32)
    for first in range(0, len(rows), _QUERIES):
        chunk = rows[first : first + _QUERIES]
        distinct, place = np.unique(chunk, return_inverse=True)
        owners = np.searchsorted(starts, distinct, side="right") - 1
        vectors = np.empty((len(distinct), queries.shape[1]), dtype=np.float64)
        for owner in np.unique(owners):
            mine = owners == owner
            vectors[mine] = blocks[owner][distinct[mine] - starts[owner]]
        exact = queries[first : first + _QUERIES].astype(np.float64) @ vectors.T  # (Q, distinct)
        values[first : first + _QUERIES] = np.take_along_axis(exact, place.reshape(chunk.shape), axis=1)
    order = np.lexsort((rows, -values), axis=1)[:, :count]
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
        return refine(self._blocks, queries, rows.astype(np.int64), count)


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
