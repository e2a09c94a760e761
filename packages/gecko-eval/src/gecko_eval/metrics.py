"""Retrieval and similarity metrics, equal to those of trec_eval and mteb."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10", "recall_at_100", "accuracy_at_1")


def ranking_metrics(
    rankings: Sequence[Sequence[str]], judgements: Sequence[Mapping[str, int]]
) -> dict[str, np.ndarray]:
    """Every metric of ``METRICS`` for every query.

    nDCG has linear gains and a log2 discount (trec_eval ``ndcg_cut``), recall divides by all relevant documents
    (``recall``), MRR is cut at rank 10 (mteb). By hand, because the
    rankings are sorted and cut already; pytrec_eval would take them as dicts of scores and sort them again.

    Args:
        rankings: per query the document ids, best first; 100 of them for ``recall_at_100`` to mean what it says.
        judgements: per query the grade of each judged document; grades below 1 count as not relevant.

    Returns:
        metric name -> float64 array, one entry per query. A query without a relevant document scores 0.

    Raises:
        ValueError: the two sequences differ in length, or a ranking has a document twice.
    """
    n = len(rankings)
    if n != len(judgements):
        raise ValueError(f"{n} rankings but {len(judgements)} sets of judgements")
    out = {metric: np.zeros(n) for metric in METRICS}
    discount = 1.0 / np.log2(np.arange(2, 12))
    for i, (ranked, judged) in enumerate(zip(rankings, judgements, strict=True)):
        if len(set(ranked[:100])) < len(ranked[:100]):
            raise ValueError(f"ranking {i} has a document more than once; keep the best place of each")
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


def tie_order(doc_ids: Sequence[str]) -> np.ndarray:
    """(n,) int64, for ``ties`` of `gecko_core.search.TopK`: of equal scores the larger document id comes first.

    trec_eval sorts that way before it cuts a ranking, so a ranking in this order scores the same here and in mteb. By
    hand, because no library ranks by score and then by descending id.
    """
    order = sorted(range(len(doc_ids)), key=lambda i: doc_ids[i], reverse=True)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two 1-d arrays; NaN where one side is constant.

    Raises:
        ValueError: the arrays are not 1-d or differ in length.
    """
    from scipy.stats import spearmanr

    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two 1-d arrays of one length, found {a.shape} and {b.shape}")
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():  # scipy would warn
        return float("nan")
    return float(spearmanr(a, b).statistic)


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the precision-recall steps, equal scores taken together; NaN without a positive label."""
    from sklearn.metrics import average_precision_score

    positive = np.asarray(labels) > 0
    return float(average_precision_score(positive, scores)) if positive.any() else float("nan")
