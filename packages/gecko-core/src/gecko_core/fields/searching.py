"""Searching documents by the best of their chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gecko_core.fields.combining import checked_owners
from gecko_core.search import Hits, Vectors, top_k


def search_documents(
    queries: Vectors,  # (Q, D)
    vectors: Vectors | Sequence[Vectors],  # (C, D), or several of them end to end
    documents: np.ndarray,  # (C,) integers
    k: int,
    **options: Any,
) -> Hits:
    """The k documents of largest inner product by their best chunk, exactly.

    Args:
        queries: float32 vectors.
        vectors: of chunks, such as :func:`gecko_core.fields.combine` gives.
        documents: the document of each chunk, numbered from 0.
        k: how many documents to find for each query; all where there are fewer.
        options: of :func:`gecko_core.search.top_k`.

    Returns:
        Numbers of documents and scores.

    Raises:
        ConfigError: see :func:`gecko_core.search.top_k`; or documents that are not as many
            whole numbers from 0 as there are vectors.
        DataError: a row that is not finite.
    """
    rows = len(vectors) if hasattr(vectors, "shape") else sum(len(piece) for piece in vectors)
    owners = checked_owners(documents, rows, "vectors")
    # Of the k x m best chunks, with at most m chunks to a document, at least k documents are there.
    most = int(np.bincount(owners).max()) if rows else 1
    return best_of_documents(top_k(queries, vectors, k * most, **options), owners, k)


def best_of_documents(hits: Hits, documents: np.ndarray, k: int) -> Hits:
    """The first k documents of lists of chunks, each document at the place of its best chunk.

    Args:
        hits: rows of chunks and scores, best first; rows of -1 are passed over.
        documents: the document of each chunk.
        k: most documents.

    Returns:
        Numbers of documents and scores, filled up with -1 and -inf where a list has fewer documents than another.
    """
    owners, width = np.asarray(documents), 0
    found: list[tuple[list[int], list[float]]] = []
    for rows, scores in zip(hits.rows, hits.scores, strict=True):
        best: dict[int, float] = {}
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            if row >= 0 and len(best) < k:
                best.setdefault(int(owners[row]), score)
        found.append((list(best), list(best.values())))
        width = max(width, len(best))
    numbers = np.full((len(found), width), -1, dtype=np.int64)
    values = np.full((len(found), width), -np.inf, dtype=np.float32)
    for place, (of_query, scores_of_query) in enumerate(found):
        numbers[place, : len(of_query)] = of_query
        values[place, : len(of_query)] = scores_of_query
    return Hits(numbers, values)
