"""Exact search against hnswlib: time of a build, time of a thousand queries, recall, by corpus size.

uv run pytest packages/gecko-fret/benchmarks/test_bench_search.py --benchmark-only
"""

import time

import numpy as np
import pytest

from gecko_fret.steps.index import ExactIndex, HnswIndex, recall

SIZES = (2_000, 10_000)
DIMENSION, QUERIES, NEIGHBOURS = 256, 1000, 20


def vectors(count, seed=0):
    """Unit vectors around a thousand centres: embeddings are clustered, and uniform ones would flatter exact search."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(1000, DIMENSION))
    values = centres[rng.integers(0, 1000, count)] + 0.7 * rng.normal(size=(count, DIMENSION))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex])
def test_thousand_queries(benchmark, kind, size):
    blocks = np.array_split(vectors(size), 4)
    began = time.perf_counter()
    index = kind(blocks)
    benchmark.extra_info["build_seconds"] = round(time.perf_counter() - began, 3)
    queries = vectors(QUERIES, seed=1)
    rows, _ = benchmark.pedantic(index.search, args=(queries, NEIGHBOURS), rounds=2, iterations=1)
    measured = recall(index, blocks, NEIGHBOURS)
    benchmark.extra_info["recall"] = round(measured, 4)
    assert rows.shape == (QUERIES, NEIGHBOURS)
    assert measured > 0.9
