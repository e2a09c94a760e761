"""Nearest neighbours by inner product: exact search over blocks, and hnswlib for very large corpora."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from gecko_core.randomness import seeded
from gecko_core.search import top_k

#: Share of the exact neighbours below which a graph is given up for exact search.
LEAST_RECALL = 0.95
#: Queries above which a graph over more than ``retrieve.hnsw_above`` passages is made and asked in less time than exact
#: search takes (benchmarks/results/search.md; more passages change little, since both costs grow with them).
GRAPH_PAYS_ABOVE = 100_000
_MEASURED_AT = 20  # neighbours
_HASHED = 65_536  # rows at a time
_log = logging.getLogger(__name__)

Blocks = Sequence[np.ndarray]  # float32 (n_i, D) each, unit rows, memory-mapped or not


class Index(Protocol):
    """Finds the rows with the largest inner products.

    Attributes:
        kind: "exact" or "hnsw".
    """

    kind: str

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

    kind = "exact"

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

    Among many equal vectors the graph loses its connections (all neighbours of a copy are copies): it is built over the
    distinct ones, and a hit stands for all rows that have it. Vectors that are nearly equal, such as those of
    boiler-plate, can do the same. Recall is therefore measured, and below ``least_recall`` the search is exact.

    Args:
        blocks: the vectors.
        repeatable: build on one thread; graphs built on many threads differ from run to run.
        links: hnswlib's M.
        breadth: hnswlib's ef_construction.
        search_breadth: hnswlib's ef, at least.
        least_recall: share of the exact neighbours that the graph must find.
        device: where exact search multiplies, if it comes to that.

    Attributes:
        kind: "hnsw", or "exact" where the graph was given up.
        measured: the recall that was measured, see :func:`recall`.
    """

    def __init__(
        self,
        blocks: Blocks,
        *,
        repeatable: bool = True,
        links: int = 32,
        breadth: int = 200,
        search_breadth: int = 128,
        least_recall: float = LEAST_RECALL,
        device: str | None = None,
    ):
        import hnswlib

        self._blocks, self._search_breadth = blocks, search_breadth
        self.size = sum(len(block) for block in blocks)
        self._rows, self._ends = distinct_rows(blocks)
        firsts = self._rows[np.concatenate([[0], self._ends[:-1]])]
        self._index = hnswlib.Index(space="ip", dim=blocks[0].shape[1])
        self._index.init_index(max_elements=len(firsts), ef_construction=breadth, M=links, random_seed=100)
        start, first = 0, 0
        for block in blocks:
            last = int(np.searchsorted(firsts, start + len(block)))
            vectors = np.asarray(block)[firsts[first:last] - start]
            self._index.add_items(vectors, np.arange(first, last), num_threads=1 if repeatable else -1)
            start, first = start + len(block), last
        self.kind, self._exact = "hnsw", ExactIndex(blocks, device)
        self.measured = recall(self, blocks, min(_MEASURED_AT, self.size))
        if self.measured < least_recall:
            self.kind = "exact"
            _log.warning(
                "hnswlib finds only %.0f%% of the nearest passages of this corpus (many are nearly the same?); "
                "the search is exact instead",
                100 * self.measured,
            )

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``Index``."""
        count = min(count, self.size)
        found = None if self.kind == "exact" else self._near(np.asarray(queries, dtype=np.float32), count)
        if found is None:
            return self._exact.search(queries, count)
        if len(self._ends) == self.size:
            return refine(self._blocks, queries, self._rows[found])
        starts = np.concatenate([[0], self._ends[:-1]])
        rows = np.empty((len(queries), count), dtype=np.int64)
        values = np.empty((len(queries), count), dtype=np.float32)
        for place, (query, numbers) in enumerate(zip(queries, found, strict=True)):
            # Of equal vectors the first rows come first, as in exact search: more than `count` of them are not needed.
            spans = [np.arange(starts[n], min(self._ends[n], starts[n] + count)) for n in numbers]
            ordered, scores = refine(self._blocks, query[None], self._rows[np.concatenate(spans)][None])
            rows[place], values[place] = ordered[0, :count], scores[0, :count]
        return rows, values

    def _near(self, queries: np.ndarray, count: int) -> np.ndarray | None:
        """Numbers of distinct vectors near each query; None where the graph does not even have so many to give."""
        self._index.set_ef(max(self._search_breadth, 2 * count))
        try:
            found, _ = self._index.knn_query(queries, k=min(count, len(self._ends)), num_threads=1)
        except RuntimeError:
            return None
        return found.astype(np.int64)


def distinct_rows(blocks: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """The rows grouped by equal vectors.

    Returns:
        All rows, those of one vector next to each other and in order, groups by their first row; and the end of every
        group in that list.
    """
    factors = np.asarray(seeded(0).integers(2**63, size=blocks[0].shape[1], dtype=np.uint64)) | np.uint64(1)
    hashes = np.concatenate([_hashes(np.asarray(block, dtype=np.float32), factors) for block in blocks])
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    owners = first[group]  # of every row, the first row with its hash
    rows = np.argsort(owners, kind="stable")
    _, counts = np.unique(owners, return_counts=True)
    return rows, np.cumsum(counts)


def _hashes(vectors: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """64-bit hash of every row's bits; two of a hundred million different rows collide with a chance of 1 in 3,000."""
    bits = np.ascontiguousarray(vectors).view(np.uint32)
    hashes = np.empty(len(bits), dtype=np.uint64)
    for start in range(0, len(bits), _HASHED):
        part = bits[start : start + _HASHED].astype(np.uint64)
        part ^= part >> np.uint64(15)
        with np.errstate(over="ignore"):
            hashes[start : start + _HASHED] = (part * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def make_index(
    blocks: Blocks,
    kind: str,
    *,
    queries: Callable[[], int],
    hnsw_above: int,
    repeatable: bool,
    device: str | None = None,
) -> Index:
    """Make the index that ``kind`` names.

    Args:
        blocks: the vectors.
        kind: "exact", "hnsw" or "auto": hnsw for more than ``hnsw_above`` rows and :data:`GRAPH_PAYS_ABOVE` queries.
        queries: counts what will be searched with, which takes a look at every part; called only where that decides.
        hnsw_above: rows.
        repeatable: build a graph on one thread.
        device: where exact search multiplies.
    """
    size = sum(len(block) for block in blocks)
    if kind == "hnsw" or (kind == "auto" and size > hnsw_above and queries() > GRAPH_PAYS_ABOVE):
        return HnswIndex(blocks, repeatable=repeatable, device=device)
    return ExactIndex(blocks, device)


def recall(index: Index, blocks: Blocks, count: int, sample: int = 200, seed: int = 0) -> float:
    """Share of the ``count`` neighbours that ``index`` finds, a row with the similarity of an exact one being as good.

    Args:
        index: what is measured.
        blocks: its vectors.
        count: neighbours asked for.
        sample: queries, at most: half way between two rows, where no query's neighbours are known to the graph. Of rows
            that are nearly equal one is taken, since a mass of them would hide that others are not found.
        seed: of the draw.
    """
    size = sum(len(block) for block in blocks)
    chosen = np.sort(seeded(seed).permutation(size)[: 10 * sample])
    starts = np.cumsum([0] + [len(block) for block in blocks])
    owners = np.searchsorted(starts, chosen, side="right") - 1
    drawn = np.stack([blocks[owner][row - starts[owner]] for owner, row in zip(owners, chosen, strict=True)])
    _, different = np.unique(np.round(drawn * 64), axis=0, return_index=True)
    queries = drawn[seeded(seed).permutation(different)[:sample]]
    queries = queries + np.roll(queries, 1, axis=0)
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    _, exact = ExactIndex(blocks).search(queries, count)
    _, approximate = index.search(queries, count)
    return float((approximate >= exact - 1e-6).mean())
