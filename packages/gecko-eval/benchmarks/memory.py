"""Peak memory of retrieval evaluation as the corpus grows: the embeddings must not add to it.

    python packages/gecko-eval/benchmarks/memory.py [--dim 768] [--sizes 10000 50000 200000]

Two ways to the same scores: `evaluate_retrieval` (the training loop's) and `run` (mteb computes, embeddings are kept in
a temporary file). Each size runs in a fresh process. The vectors are random, 500 queries, all documents distinct;
"before" is what libraries and texts take, "all vectors" what holding every embedding would take.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch


class RandomModel:
    """Gives every text a random vector of its own; has what both ways ask of a model."""

    label, precision, prompted, device = "random", "float32", "", torch.device("cpu")
    similarity = "cosine"

    def __init__(self, dim: int) -> None:
        self.dim, self.dims, self.key = dim, (dim, dim // 4), f"random-{dim}"
        self.record, self.prompts = {}, {}

    def embed(self, texts: list[str]) -> np.ndarray:
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
            row[:] = np.random.Generator(np.random.SFC64(seed)).standard_normal(self.dim, dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def with_prompts(self, texts, titles, task, side):
        return texts

    def encode_queries(self, texts, task="search result"):
        return self.embed(texts)

    def encode_documents(self, texts, titles=None):
        return self.embed(texts)


def measure(way: str, size: int, dim: int) -> None:
    from gecko_eval.data import RetrievalSet
    from gecko_eval.in_training import evaluate_retrieval
    from gecko_eval.mteb.entries import entries_for
    from gecko_eval.mteb.local import from_retrieval_set
    from gecko_eval.mteb.run import go_offline, run_tasks

    go_offline()
    ids = [f"d{i}" for i in range(size)]
    docs = [f"document number {i}" for i in range(size)]
    queries = [f"q{i}" for i in range(500)]
    data = RetrievalSet("random", queries, queries, ids, docs, None, {q: {ids[i]: 1} for i, q in enumerate(queries)})
    model = RandomModel(dim)
    if way == "run":
        import mteb  # noqa: F401  (libraries belong to "before")
        from datasets import Dataset  # noqa: F401

    before = peak()
    start = time.perf_counter()
    if way == "run":
        with tempfile.TemporaryDirectory() as folder:
            entries = entries_for([], None, [from_retrieval_set(data, Path(folder))])
            task = run_tasks(model, entries, model.dims, Path(folder) / "out", say=str)["tasks"]["random"]
            assert "error" not in task, task
    else:
        evaluate_retrieval(model, data)
    seconds, vectors = time.perf_counter() - start, size * dim * 4 / 2**20
    print(f"| {way} | {size} | {before:.0f} | {peak() - before:.0f} | {vectors:.0f} | {seconds:.1f} |", flush=True)


def peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], int(options.one[1]), options.dim)
        return
    print("| way | documents | MiB before | MiB added by evaluation | MiB of all vectors | seconds |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for way in ("evaluate_retrieval", "run"):
        for size in options.sizes:
            command = [sys.executable, __file__, "--one", way, str(size), "--dim", str(options.dim)]
            subprocess.run(command, check=True)
    versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"\n{platform.machine()}, {versions}, {time.strftime('%Y-%m-%d')}")


if __name__ == "__main__":
    main()
