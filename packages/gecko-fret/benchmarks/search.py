"""Exact search against hnswlib by corpus size: time, recall, and how many queries a graph needs to pay for itself.

    uv run python packages/gecko-fret/benchmarks/search.py

Clustered random vectors of 384 dimensions, N = 20. The graph is built on one thread, as builds do that are to be
repeatable.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from machine import described, publish, table

from gecko_fret.steps.index import ExactIndex, HnswIndex, recall

DIMENSION, QUERIES, NEIGHBOURS = 384, 1000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    rows = [measure(size) for size in parser.parse_args().sizes]
    publish(
        "search",
        [
            "# Search",
            "",
            f"{described('torch', 'numpy', 'hnswlib')}. {DIMENSION} dimensions, N = {NEIGHBOURS}; times of {QUERIES} "
            "queries. Crossing: the number of queries above which building the graph and asking it is quicker than "
            "exact search.",
            "",
            *table(["passages", "exact s", "graph s", "asking it s", f"recall@{NEIGHBOURS}", "crossing"], rows),
        ],
    )


def measure(size: int) -> list[object]:
    """One row of the table."""
    blocks = np.array_split(vectors(size, 0), -(-size // 1024))
    queries = vectors(QUERIES, 1)
    exact, built = timed(lambda: ExactIndex(blocks).search(queries, NEIGHBOURS)), time.perf_counter()
    graph = HnswIndex(blocks)
    build = time.perf_counter() - built
    asked = timed(lambda: graph.search(queries, NEIGHBOURS))
    gain = (exact - asked) / QUERIES
    crossing = f"{build / gain:,.0f} queries" if gain > 0 else "never"
    measured = recall(graph, blocks, NEIGHBOURS)
    return [f"{size:,}", f"{exact:.2f}", f"{build:.1f}", f"{asked:.2f}", f"{measured:.4f}", crossing]


def timed(work: object) -> float:
    """The quicker of two runs, in seconds."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def vectors(count: int, seed: int) -> np.ndarray:
    """Unit vectors around a thousand centres: embeddings are clustered, and uniform ones would flatter exact search."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(1000, DIMENSION)).astype(np.float32)
    values = centres[rng.integers(0, 1000, count)] + 0.7 * rng.normal(size=(count, DIMENSION)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
