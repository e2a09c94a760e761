"""Exact search at several block sizes, beside one product and one torch.topk over everything (whose ties are open).

pytest packages/gecko-eval/benchmarks --benchmark-columns=median,iqr,rounds
"""

import numpy as np
import pytest
import torch

from gecko_eval.metrics import ranking_metrics
from gecko_eval.search import TopK


@pytest.fixture(scope="module")
def vectors():
    generator = torch.Generator().manual_seed(0)
    queries, documents = (torch.randn(n, 384, generator=generator) for n in (500, 40_000))
    return torch.nn.functional.normalize(queries), torch.nn.functional.normalize(documents)


@pytest.mark.parametrize("block", [4096, 8192, 40_000])
def test_blocked_exact_search(benchmark, vectors, block):
    queries, documents = vectors
    ids = [f"d{i}" for i in range(len(documents))]

    def search():
        top = TopK(len(queries), ids, 100)
        for first in range(0, len(documents), block):
            top.add(queries, documents[first : first + block], first)
        return top.result()

    indices, _ = benchmark(search)
    assert indices.shape == (500, 100)


def test_one_product_and_topk(benchmark, vectors):
    queries, documents = vectors
    found = benchmark(lambda: torch.topk(queries @ documents.T, 100))
    assert found.indices.shape == (500, 100)


def test_metrics_of_a_thousand_rankings(benchmark):
    rng = np.random.default_rng(0)
    rankings = [[f"d{i}" for i in rng.permutation(1000)[:100]] for _ in range(1000)]
    judgements = [{f"d{i}": 1 for i in rng.integers(0, 1000, 5)} for _ in range(1000)]
    scores = benchmark(ranking_metrics, rankings, judgements)
    assert 0 < scores["ndcg_at_10"].mean() < 1
