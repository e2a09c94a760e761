"""Metrics of a thousand rankings of a hundred documents.

pytest packages/gecko-eval/benchmarks --benchmark-columns=median,iqr,rounds
"""

import numpy as np

from gecko_eval.metrics import ranking_metrics


def test_metrics_of_a_thousand_rankings(benchmark):
    rng = np.random.default_rng(0)
    rankings = [[f"d{i}" for i in rng.permutation(1000)[:100]] for _ in range(1000)]
    judgements = [{f"d{i}": 1 for i in rng.integers(0, 1000, 5)} for _ in range(1000)]
    scores = benchmark(ranking_metrics, rankings, judgements)
    assert 0 < scores["ndcg_at_10"].mean() < 1
