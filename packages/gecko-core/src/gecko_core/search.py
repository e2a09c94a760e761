"""Exact nearest neighbours by inner product, in blocks: memory does not grow with the corpus, and ties fall one way.

fp32 matrix products differ in their last bits with the number of threads, the device and the size of a block. Here they
only rule out what cannot be among the first k, by a bound on their rounding error; what is left is computed again in
fp64, pair by pair. So scores and order depend on the vectors alone, which no search library
promises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gecko_core.devices import checked_device
from gecko_core.errors import ConfigError, DataError
from gecko_core.numbers import is_whole
from gecko_core.vectors import checked_matrix

__all__ = ["BLOCK", "Hits", "TopK", "top_k"]

Vectors: TypeAlias = np.ndarray | Tensor
BLOCK = 16_384  # documents multiplied at a time
_MOST = 2**31 - 1
_QUERIES = 1024  # queries multiplied at a time
_COMPONENTS = 2_000_000  # numbers computed again at a time
# What torch.set_float32_matmul_precision lets a product do to its inputs: nothing, TF32, bf16.
_INPUT_ERROR = {"highest": 0.0, "high": 2.0**-10, "medium": 2.0**-8}


class Hits(NamedTuple):
    """The best documents of every query.

    Attributes:
        rows: (Q, k) int64.
        scores: (Q, k) float32, descending.
    """

    rows: np.ndarray
    scores: np.ndarray


def top_k(
    queries: Vectors,  # (Q, D)
    documents: Vectors | Sequence[Vectors],  # (N, D), memory-mapped or not, or several of them end to end
    k: int,
    *,
    block: int = BLOCK,
    exclude: Vectors | None = None,  # (Q,) or (Q, E) integers
    ties: Vectors | None = None,  # (N,) integers
    device: str | torch.device | None = None,
) -> Hits:
    """Find the k documents of largest inner product for every query, exactly.

    Higher score first; of equal scores (as float32) the lower row first, or, with ``ties``, the lower value there.

    Args:
        queries: float32 vectors.
        documents: float32 vectors.
        k: how many to find; min(k, N) where there are fewer.
        block: documents multiplied at a time.
        exclude: rows that are no answer to a query, negative numbers for none; a query left with fewer than k others is
            filled up with row -1 and score -inf.
        ties: decides between equal scores.
        device: where to multiply; where the queries are by default.

    Returns:
        Rows and scores.

    Raises:
        ConfigError: shapes that do not fit, int8 or packed binary embeddings, documents that are no arrays, or a device
            that is not there.
        DataError: a row that is not finite, or whose norm is above fp32's range; its number is named.
    """
    if not is_whole(block, 1, _MOST):
        raise ConfigError(f"block must be a positive whole number, not {block!r}")
    if is_whole(k, 1, _MOST) and isinstance(documents, np.ndarray | Tensor) and documents.ndim:
        k = min(k, max(1, len(documents)))
    search = TopK(queries, k, exclude=exclude, ties=ties, device=device)
    for piece in _pieces(documents):
        for start in range(0, max(1, len(piece)), block):  # of an empty one the width is checked
            search.add(piece[start : start + block])
    return search.result()


class TopK:
    """``top_k`` for documents that come a block at a time and need not be kept: ``add`` each, then ask for ``result``.

    The result does not depend on how the documents were cut into blocks. Args and errors are those of :func:`top_k`.
    """

    def __init__(
        self,
        queries: Vectors,
        k: int,
        *,
        exclude: Vectors | None = None,
        ties: Vectors | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        if not is_whole(k, 1, _MOST):
            raise ConfigError(f"k must be a positive whole number of at most {_MOST:,}, not {k!r}")
        self.k, self.seen = int(k), 0
        where = device if device is None else checked_device(device)
        self._queries, self._lengths = checked_matrix(queries, "queries", device=where)
        self._exclude = None if exclude is None else _integers(exclude, "exclude")
        if self._exclude is not None:
            self._exclude = self._exclude.reshape(len(self._exclude), math.prod(self._exclude.shape[1:]))
            if len(self._exclude) != len(self._queries):
                raise ConfigError(f"exclude is for {len(self._exclude)} queries, there are {len(self._queries)}")
        self._ties = None if ties is None else _integers(ties, "ties")
        self._rows = np.full((len(self._queries), self.k), -1, dtype=np.int64)
        self._scores = np.full((len(self._queries), self.k), -np.inf, dtype=np.float32)

    @torch.inference_mode()
    def add(self, documents: Vectors) -> None:
        """Take the next documents (n, D): rows ``seen`` to ``seen + n - 1``."""
        vectors, lengths = checked_matrix(documents, "documents", first=self.seen, device=self._queries.device)
        if vectors.shape[1] != self._queries.shape[1]:
            raise ConfigError(f"queries have {self._queries.shape[1]} components, documents {vectors.shape[1]}")
        if self._ties is not None and len(self._ties) < self.seen + len(vectors):
            raise ConfigError(f"ties has {len(self._ties)} values for at least {self.seen + len(vectors)} documents")
        if len(vectors):
            longest = lengths.max()
            if len(self._queries) and not math.isfinite(float(longest * self._lengths.max())):
                row, query = self.seen + int(lengths.argmax()), int(self._lengths.argmax())
                raise DataError(
                    f"documents: row {row} and queries: row {query} are too long for a product in float32; scale the "
                    "vectors down"
                )
            for first in range(0, len(self._queries), _QUERIES):
                queries, columns = self._promising(slice(first, first + _QUERIES), vectors, longest)
                self._merge(queries, columns + self.seen, _products(self._queries, queries, vectors, columns))
        self.seen += len(vectors)

    def result(self) -> Hits:
        """Return the best of all documents added so far."""
        kept = min(self.k, self.seen)
        return Hits(self._rows[:, :kept].copy(), self._scores[:, :kept].copy())

    def _promising(self, part: slice, vectors: Tensor, longest: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (query of this part, column of the block) that may be among the query's first k."""
        queries = self._queries[part]
        with torch.autocast(queries.device.type, enabled=False):
            rough = queries @ vectors.T  # (q, n)
        self._hide_excluded(rough, part)
        # |fl(x.y) - x.y| <= g |x||y|, g = D u / (1 - D u), for any order of summation (Higham, section 3.1). Each of
        # the D products also loses up to the smallest number that is not denormal, as devices may flush what is.
        width = queries.shape[1] * 2.0**-24
        relative = width / (1 - width) + 2 * _INPUT_ERROR[torch.get_float32_matmul_precision()] + 2.0**-22
        error = relative * self._lengths[part] * longest + queries.shape[1] * 2.0**-125
        bar = torch.from_numpy(self._scores[part, -1]).to(rough.device)
        if rough.shape[1] >= self.k:
            bar = torch.maximum(bar, rough.topk(self.k, dim=1).values[:, -1] - error)
        promising = (rough >= (bar - error)[:, None]) & (rough > -torch.inf)
        rows, columns = promising.nonzero(as_tuple=True)
        return rows + part.start, columns

    def _hide_excluded(self, rough: Tensor, part: slice) -> None:
        if self._exclude is None:
            return
        here = self._exclude[part] - self.seen
        query, place = ((here >= 0) & (here < rough.shape[1]) & (self._exclude[part] >= 0)).nonzero()
        rough[torch.from_numpy(query), torch.from_numpy(here[query, place])] = -torch.inf

    def _merge(self, queries: Tensor, rows: Tensor, scores: np.ndarray) -> None:
        if not len(scores):
            return
        touched, place = np.unique(queries.cpu().numpy(), return_inverse=True)
        old_rows, old_scores = self._rows[touched], self._scores[touched]
        filled = old_rows >= 0
        owner = np.concatenate([filled.nonzero()[0], place])
        row = np.concatenate([old_rows[filled], rows.cpu().numpy()])
        score = np.concatenate([old_scores[filled], scores])
        order = np.lexsort((row if self._ties is None else self._ties[row], -score, owner))
        owner, row, score = owner[order], row[order], score[order]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)  # place within its query
        kept = rank < self.k
        self._rows[touched[owner[kept]], rank[kept]] = row[kept]
        self._scores[touched[owner[kept]], rank[kept]] = score[kept]


def _products(left: Tensor, rows: Tensor, right: Tensor, columns: Tensor) -> np.ndarray:
    """Inner products of pairs, float32, each computed in fp64 in an order that its width alone decides."""
    products = np.empty(len(rows), dtype=np.float32)
    step = max(1, _COMPONENTS // max(1, left.shape[1]))
    for first in range(0, len(rows), step):
        part = slice(first, first + step)
        a, b = left[rows[part]].cpu().numpy(), right[columns[part]].cpu().numpy()
        products[part] = np.multiply(a, b, dtype=np.float64).sum(axis=1)
    return products


def _pieces(documents: Any) -> Iterator[Vectors]:
    """The arrays that documents come in. A list of lists could be either: one array, or several."""
    several = [documents] if isinstance(documents, np.ndarray | Tensor) else documents
    if not isinstance(several, Iterable):
        raise ConfigError(f"documents must be an array (N, D), or several, not {type(documents).__name__}")
    for piece in several:
        if not isinstance(piece, np.ndarray | Tensor):
            raise ConfigError(f"documents: {type(piece).__name__} where an array (n, D) was expected; numpy.asarray")
        if piece.ndim != 2:
            raise ConfigError(f"documents must have two dimensions, (n, D), not {tuple(piece.shape)}")
        yield piece


def _integers(values: Vectors, what: str) -> np.ndarray:
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{what} must hold integers, not {array.dtype}")
    return array.astype(np.int64)
