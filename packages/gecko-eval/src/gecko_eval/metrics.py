"""Retrieval and similarity metrics, one value per query, equal to trec_eval's (and so to mteb's)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10", "recall_at_100", "accuracy_at_1")


def ranking_metrics(
    rankings: Sequence[Sequence[str]], judgements: Sequence[Mapping[str, int]]
) -> dict[str, np.ndarray]:
    """Every metric of ``METRICS`` for every query.

    Args:
        rankings: per query the document ids, best first; 100 of them for ``recall_at_100`` to mean what it says.
        judgements: per query the grade of each judged document; grades below 1 count as not relevant.

    Returns:
        metric name -> float64 array, one entry per query. A query without a relevant document scores 0.

    nDCG has linear gains and a log2 discount (trec_eval ``ndcg_cut``), recall divides by all relevant documents
    (``recall``), MRR is cut at rank 10 (mteb).
    """
    n = len(rankings)
    if n != len(judgements):
        raise ValueError(f"{n} rankings but {len(judgements)} sets of judgements")
    out = {metric: np.zeros(n) for metric in METRICS}
    discount = 1.0 / np.log2(np.arange(2, 12))
    for i, (ranked, judged) in enumerate(zip(rankings, judgements, strict=True)):
        grades = np.array([max(judged.get(d, 0), 0) for d in ranked[:100]], dtype=np.float64)
        relevant = np.sort(np.array([g for g in judged.values() if g > 0], dtype=np.float64))[::-1]
        if not len(relevant):
            continue
        top = grades[:10]
        out["ndcg_at_10"][i] = top @ discount[: len(top)] / (relevant[:10] @ discount[: min(len(relevant), 10)])
        hits = np.flatnonzero(top > 0)
        out["mrr_at_10"][i] = 1.0 / (hits[0] + 1) if len(hits) else 0.0
        out["recall_at_10"][i] = len(hits) / len(relevant)
        out["recall_at_100"][i] = np.count_nonzero(grades > 0) / len(relevant)
        out["accuracy_at_1"][i] = float(len(hits) > 0 and hits[0] == 0)
    return out


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two 1-d arrays; ties get their average rank. NaN where one side is constant."""
    x, y = _average_ranks(np.asarray(a)), _average_ranks(np.asarray(b))
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"expected two 1-d arrays of one length, found {x.shape} and {y.shape}")
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else float("nan")


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the precision-recall steps, equal scores taken together (as scikit-learn). NaN without a positive."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    scores, positive = np.asarray(scores)[order], np.asarray(labels)[order] > 0
    if not positive.any():
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last place of every distinct score
    hits = np.cumsum(positive)[last]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1)) / hits[-1])


def _average_ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
