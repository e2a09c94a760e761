"""Do written queries speak of their passage, and as users do? By the ways of writing them that `generate` knows.

    GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/queries.py --threads 1

The packaged LLM writes for passages of python-docs, SciFact and FiQA (gold). Shares are of the queries that the filter
accepts: the seed is the first, among the first 4, among the first 20 passages that all-MiniLM-L6-v2 finds for them.
AUC: how well a classifier tells them from real queries of the set, those shown as examples left out (0.5: not at all).
Attempts are kept in `--work`, by set, way and batch of seeds; a run that was ended goes on, and one with more seeds or
ways adds what is missing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import described, publish, table

from gecko_core import Gecko
from gecko_core.io import below_data_dir, write_json
from gecko_core.randomness import generator
from gecko_core.search import top_k
from gecko_eval import load_beir
from gecko_fret.build.report.style import told_apart
from gecko_fret.config import GenerateConfig
from gecko_fret.corpus import Corpus, Passage, python_docs
from gecko_fret.llm import load_llm
from gecko_fret.llm.config import LLMConfig
from gecko_fret.prompting import Demonstration, load_prompts, prompt_text
from gecko_fret.steps.examples import pair
from gecko_fret.steps.filter import Filter, Query
from gecko_fret.steps.write import Attempt, Write, sample_seeds

SETS = ("python-docs", "fiqa_gold", "scifact")
EXAMPLES, BATCH = 24, 16
PAPER = {"write_task": True, "contrast": 0.0}
ALONE = {"write_task": False, "contrast": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "task and query (version 0.1)": PAPER,
    "query alone": ALONE,
    "contrast 0.5": ALONE | {"contrast": 0.5, "plausible": 0.2},
    "contrast 1": ALONE | {"contrast": 1.0, "plausible": 0.2},
    "chat": ALONE | {"chat": "always"},
    "chat, contrast 0.5": ALONE | {"chat": "always", "contrast": 0.5, "plausible": 0.2},
    "examples": ALONE | {"examples": "the set's own"},
    "examples, contrast 0.5": ALONE | {"examples": "the set's own", "contrast": 0.5, "plausible": 0.2},
    "examples, contrast 1": ALONE | {"examples": "the set's own", "contrast": 1.0, "plausible": 0.2},
    "examples, chat, contrast 0.5": ALONE
    | {"examples": "the set's own", "chat": "always", "contrast": 0.5, "plausible": 0.2},
}
KEPT = {"all": {}, "best of 2 by log-probability": {"keep": "best"}, "best of 2, grounded": {"keep": "grounded"}}
FLOOR = 0.5
MEASURED = {"min_grounding": -1e9}  # grounding is measured, nothing is rejected by it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="runs/queries", help="folder of the attempts")
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--report-only", action="store_true", help="only tabulate what is there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(Path(options.work), options.seeds, options.seed)
    for name in options.sets:
        rows = []
        for way in options.ways:
            if "examples" in WAYS[way] and name == "python-docs":
                continue  # nobody's queries are known
            attempts = bench.attempts(name, way, write=not options.report_only)
            if attempts is not None:
                rows += bench.measured(name, way, attempts)
        report(name, rows, options.seeds, options.seed)


HEADER = [
    "way",
    "kept",
    "accepted",
    "seed in top 1",
    "top 4",
    "top 20",
    "AUC",
    "words",
    "tokens written per query",
    "rejected",
]


def report(name: str, rows: list[list[object]], seeds: int, seed: int) -> None:
    shown = f"{EXAMPLES} real queries as examples, 6 in a prompt"
    publish(
        f"queries_{name.replace('-', '_')}",
        [
            f"# Written queries, {name}",
            "",
            f"{described('torch', 'transformers')}. SmolLM2-135M-Instruct; {seeds} seeds, 2 attempts each, seed "
            f"{seed}; {shown}. A share of 0.5 of 100 queries has a standard error of 0.05.",
            "",
            *table(HEADER, rows),
        ],
    )


class Bench:
    """Attempts by set and way, and what they are worth."""

    def __init__(self, work: Path, seeds: int, seed: int):
        self.work, self.seeds, self.seed = work, seeds, seed
        work.mkdir(parents=True, exist_ok=True)
        self.prompts = load_prompts("default")
        self._embedder: Any = None
        self._llm: Any = None
        self._sets: dict[str, tuple[Corpus, list[str], np.ndarray]] = {}

    @property
    def embedder(self) -> Any:
        self._embedder = self._embedder or Gecko.from_pretrained("all-minilm-l6-v2")
        return self._embedder

    @property
    def llm(self) -> Any:
        self._llm = self._llm or load_llm(LLMConfig())
        return self._llm

    def set(self, name: str) -> tuple[Corpus, list[str], np.ndarray]:
        """Passages, real queries in random order, and the passages' vectors."""
        if name not in self._sets:
            corpus, queries = python_docs(), list[str]()
            if name != "python-docs":
                data = load_beir(below_data_dir(name))
                titles = data.titles or [""] * len(data.docs)
                rows = zip(data.doc_ids, titles, data.docs, strict=True)
                corpus = Corpus([Passage(i, title or None, text) for i, title, text in rows if text.strip()], name)
                queries = [data.queries[place] for place in generator("real", self.seed).permutation(len(data.queries))]
            path = self.work / f"{name}.npy"
            if not path.exists():
                np.save(path, self.embedder.encode_documents(corpus.texts, corpus.titles))
            self._sets[name] = corpus, queries, np.load(path)
        return self._sets[name]

    def examples(self, name: str) -> list[Demonstration]:
        corpus, queries, vectors = self.set(name)
        chosen = queries[:EXAMPLES]
        pairs = pair(chosen, self.embedder.encode_queries(chosen), vectors)
        return [
            Demonstration(kind="search result", query=chosen[q], passage=prompt_text(corpus[p])) for q, p, _ in pairs
        ]

    def attempts(self, name: str, way: str, write: bool) -> list[Attempt] | None:
        """The attempts of a way, written where they are missing."""
        corpus = self.set(name)[0]
        seeds = [corpus[row].id for row in sample_seeds(corpus, self.seeds, self.seed)]
        config = GenerateConfig(**(WAYS[way] | MEASURED))
        writer, found = None, list[Attempt]()
        for start in range(0, len(seeds), BATCH):
            path = self.work / f"{name}-{self.seed}" / way.replace(" ", "-") / f"{start:05d}.json"
            batch = seeds[start : start + BATCH]
            kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seeds": []}
            if kept["seeds"] != batch:
                if not write:
                    return None
                if writer is None:
                    shown = self.examples(name) if config.examples else []
                    writer = Write(corpus, [(self.llm, 1.0)], self.prompts, config, self.seed, shown)
                began = time.perf_counter()
                rows = writer(batch).rows
                kept = {"seeds": batch, "attempts": [asdict(row) for row in rows]}
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, kept)
                print(f"{name}, {way}, {start + len(batch)} seeds: {time.perf_counter() - began:.0f} s", flush=True)
            found += [Attempt(**row) for row in kept["attempts"]]
        return found

    def measured(self, name: str, way: str, attempts: list[Attempt]) -> list[list[object]]:
        """Rows of the table: everything that is accepted, the best of two, and what is grounded enough."""
        rows = [self._row(name, way, kept, attempts, settings) for kept, settings in KEPT.items()]
        return [*rows, self._row(name, way, f"grounding above {FLOOR}", attempts, {"min_grounding": FLOOR})]

    def _row(self, name: str, way: str, kept: str, attempts: list[Attempt], settings: dict[str, Any]) -> list[object]:
        corpus, real, vectors = self.set(name)
        config = GenerateConfig(**(WAYS[way] | settings))
        shown = [example.query for example in self.examples(name)] if config.examples else []
        result = Filter(corpus, self.prompts, config, shown)(attempts)
        ranks = self._ranks(result.rows, corpus, vectors)
        shares = [f"{np.mean(ranks <= k):.2f}" for k in (1, 4, 20)]
        reasons = Counter(reject.reason for reject in result.rejects)
        texts, others = [query.query for query in result.rows], real[EXAMPLES : EXAMPLES + 200]
        auc = f"{told_apart(texts, others, self.seed):.2f}" if others else "-"
        words = f"{np.mean([len(text.split()) for text in texts]):.1f}"
        written = f"{sum(attempt.tokens for attempt in attempts) / len(texts):.0f}"
        rejected = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        accepted = f"{len(texts) / len(attempts):.0%}"
        return [way, kept, accepted, *shares, auc, words, written, rejected]

    def _ranks(self, queries: list[Query], corpus: Corpus, vectors: np.ndarray) -> np.ndarray:
        """Rank of each query's seed, from 1; 21 where it is not among the first 20."""
        found = top_k(self.embedder.encode_queries([query.query for query in queries]), vectors, 20).rows
        seeds = np.array([corpus.row(str(query.seed_id)) for query in queries])
        hits = found == seeds[:, None]
        return np.where(hits.any(1), hits.argmax(1) + 1, 21)


if __name__ == "__main__":
    main()
