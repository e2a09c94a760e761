"""Peak memory of retrieval evaluation as the corpus grows: the embeddings must not add to it.

    python packages/gecko-eval/benchmarks/memory.py [--dim 768] [--sizes 10000 50000 200000]

Each size runs in a fresh process. The vectors are random, 500 queries, all documents distinct; "texts" is what the
corpus itself takes, "all vectors" what holding every embedding would take.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time

import numpy as np
import torch


class RandomModel:
    """Gives every text a random vector; has what evaluate_retrieval asks of a model."""

    def __init__(self, dim: int) -> None:
        self.dim, self.dims, self.device = dim, (dim, dim // 4), torch.device("cpu")
        self._rng = np.random.default_rng(0)

    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = self._rng.standard_normal((len(texts), self.dim), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_queries(self, texts, task="search result"):
        return self._encode(texts)

    def encode_documents(self, texts, titles=None):
        return self._encode(texts)


def measure(size: int, dim: int) -> None:
    from gecko_eval.retrieval import RetrievalSet, evaluate_retrieval

    ids = [f"d{i}" for i in range(size)]
    docs = [f"document number {i}" for i in range(size)]
    queries = [f"q{i}" for i in range(500)]
    data = RetrievalSet("random", queries, queries, ids, docs, None, {q: {ids[i]: 1} for i, q in enumerate(queries)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    evaluate_retrieval(RandomModel(dim), data)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    vectors = size * dim * 4 / 2**20
    print(
        f"| {size} | {before:.0f} | {after - before:.0f} | {vectors:.0f} | {time.perf_counter() - start:.1f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.dim)
        return
    print("| documents | MiB before (texts) | MiB added by evaluation | MiB of all vectors | seconds |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    for size in options.sizes:
        subprocess.run([sys.executable, __file__, "--one", str(size), "--dim", str(options.dim)], check=True)
    versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"\n{platform.machine()}, {versions}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
