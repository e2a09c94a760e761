"""Retrieval on a judged set, fast enough for the training loop and equal to mteb's numbers.

All Matryoshka dims come from one encoding. Documents are encoded and searched chunk by chunk, so memory grows with the
number of queries and not with the corpus. Nothing here imports mteb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gecko_core.errors import ConfigError
from gecko_core.numbers import is_whole
from gecko_core.search import TopK
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.metrics import METRICS, ranking_metrics, tie_order

if TYPE_CHECKING:
    from gecko_core import Gecko

#: Called with (documents and queries encoded so far, all of them).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RetrievalScores:
    """Means over queries, and under ``per_query`` the arrays behind them (in the order of ``query_ids``)."""

    ndcg_at_10: float
    mrr_at_10: float
    recall_at_10: float
    recall_at_100: float
    accuracy_at_1: float
    per_query: dict[str, np.ndarray] = field(repr=False)


def evaluate_retrieval(
    model: Gecko,
    data: RetrievalSet,
    dims: Sequence[int] | None = None,
    progress: Progress | None = None,
    *,
    chunk_size: int = 8192,
) -> dict[int, RetrievalScores]:
    """Exact cosine search of every query over every document, scored at each Matryoshka dim.

    Args:
        model: encodes queries with ``data.task`` and documents with their titles (or, with ``data.symmetric``, with the
            query's format), as its own ``prompt_style`` says.
        data: the judged set.
        dims: prefixes to score, re-normalised each; default ``model.dims``.
        progress: called after every chunk with (texts encoded, texts in all).
        chunk_size: documents held in memory at a time.

    Returns:
        dim -> scores, in the order asked.

    Raises:
        ConfigError: a dim that the model does not have, or a chunk size that is none.
        DataError: embeddings that are not finite.
    """
    dims = check_dims(model.dim, model.dims if dims is None else dims)
    if not is_whole(chunk_size, 1):
        raise ConfigError(f"chunk_size must be a whole number of 1 or more, found {chunk_size!r}")
    total, done = len(data.queries) + len(data.docs), len(data.queries)
    queries = _tensor(model.encode_queries(list(data.queries), task=data.task, **whole_width(model)), model)
    if progress:
        progress(done, total)
    # One more than recall needs where a query's own document is dropped from its ranking.
    k = 101 if data.ignore_identical_ids else 100
    ties = tie_order(data.doc_ids)
    best = {dim: TopK(_prefix(queries, dim), k, ties=ties) for dim in dims}
    for first in range(0, len(data.docs), chunk_size):
        rows = slice(first, first + chunk_size)
        documents = _tensor(_encode_documents(model, data, rows), model)
        for dim in dims:
            best[dim].add(_prefix(documents, dim))
        done += len(documents)
        if progress:
            progress(done, total)
    return {dim: _scores(best[dim].result().rows, data) for dim in dims}


def whole_width(model: Any) -> dict[str, Any]:
    """Options of ``encode*`` for all components, where a model gives fewer by default."""
    return {"truncate_dim": model.dim} if getattr(model, "truncate_dim", None) else {}


def check_dims(full: int, dims: Sequence[int]) -> tuple[int, ...]:
    """The dims as a tuple without repeats.

    Raises:
        ConfigError: a dim is not a prefix of an embedding ``full`` wide, or there is none.
    """
    found = list(dims) if isinstance(dims, Iterable) else []
    if not found or not all(is_whole(dim, 1, full) for dim in found):
        raise ConfigError(
            f"dims {found or dims}: the model gives {full} dims, so each must be a whole number from 1 to {full}"
        )
    return tuple(dict.fromkeys(map(int, found)))


def _encode_documents(model: Gecko, data: RetrievalSet, rows: slice) -> np.ndarray:
    texts = list(data.docs[rows])
    titles = None if data.titles is None else list(data.titles[rows])
    if not data.symmetric:
        return model.encode_documents(texts, titles=titles, **whole_width(model))
    if titles is not None:
        texts = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
    return model.encode_queries(texts, task=data.task, **whole_width(model))


def _tensor(embeddings: np.ndarray, model: Gecko) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(embeddings)).to(model.device)


def _prefix(embeddings: torch.Tensor, dim: int) -> torch.Tensor:
    if dim == embeddings.shape[1]:
        return embeddings
    return torch.nn.functional.normalize(embeddings[:, :dim], dim=1)


def _scores(indices: np.ndarray, data: RetrievalSet) -> RetrievalScores:
    rankings = [[data.doc_ids[i] for i in row] for row in indices]
    if data.ignore_identical_ids:
        rankings = [[d for d in row if d != q] for q, row in zip(data.query_ids, rankings, strict=True)]
    per_query = ranking_metrics(rankings, data.judgements)
    return RetrievalScores(**{m: float(per_query[m].mean()) for m in METRICS}, per_query=per_query)
