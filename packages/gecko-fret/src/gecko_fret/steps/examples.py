"""A user's own queries as demonstrations: each with the passage that the embedder finds for it (Promptagator).

Dai et al. 2022 (arXiv 2209.11755) show a few pairs of query and passage of the task at hand; here only the queries need
to be known. Pairs are made once for a build, and kept in its folder, so that all parts and processes show the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.io import Progress, read_json, write_json
from gecko_core.randomness import generator
from gecko_core.search import top_k
from gecko_fret.corpus.passages import Corpus
from gecko_fret.prompting import Demonstration, prompt_text
from gecko_fret.query_files import read_queries
from gecko_fret.steps.base import BuildContext

#: Most passages that are searched: a demonstration needs a fitting passage, not the best of millions.
POOL = 5000
#: Most examples that are shown in any prompt.
MOST = 60
EXAMPLES = "examples.json"
_BLOCK = 256


def examples_file(out: Path) -> Path:
    """Where a build keeps its demonstrations."""
    return out / EXAMPLES


def prepare_examples(build: BuildContext, progress: Progress) -> None:
    """Find a passage for every example, once, where the configuration names examples."""
    config = build.config.generate
    path = examples_file(build.out)
    if config.examples is None or path.exists():
        return
    queries = [query.text for query in read_queries(config.examples)]
    embedder = build.models.embedder(build.config.embedder)
    rows = draw_pool(len(build.corpus), build.config.seed)
    progress.start("examples", len(rows), 0, "passages")
    vectors = encode_pool(build.corpus, rows, embedder, build.config.embedder.batch_tokens, progress)
    progress.finish()
    encoded = embedder.encode_queries(queries, task=config.user_task, batch_tokens=build.config.embedder.batch_tokens)
    pairs = pair(queries, encoded, vectors)
    write_json(
        path,
        {"pairs": [{"query": queries[q], "passage": build.corpus[rows[p]].id, "similarity": s} for q, p, s in pairs]},
    )


def read_examples(build: BuildContext) -> list[Demonstration]:
    """The demonstrations of a build, those whose passages fit best first; none where it names no examples."""
    config = build.config.generate
    if config.examples is None:
        return []
    pairs = read_json(examples_file(build.out), cure="delete it and run the same build again")["pairs"]
    return [
        Demonstration(
            kind=config.user_task, query=entry["query"], passage=prompt_text(build.corpus.get(entry["passage"]))
        )
        for entry in pairs
    ]


def draw_pool(passages: int, seed: int) -> list[int]:
    """Rows of the corpus that are searched: all, or ``POOL`` drawn ones."""
    if passages <= POOL:
        return list(range(passages))
    return sorted(generator("examples", seed).permutation(passages)[:POOL].tolist())


def encode_pool(
    corpus: Corpus, rows: Sequence[int], embedder: Any, batch_tokens: int | None, progress: Progress
) -> np.ndarray:
    """Vectors of these passages, (rows, dim)."""
    blocks = []
    for start in range(0, len(rows), _BLOCK):
        passages = [corpus[row] for row in rows[start : start + _BLOCK]]
        texts, titles = [passage.text for passage in passages], [passage.title for passage in passages]
        blocks.append(embedder.encode_documents(texts, titles, batch_tokens=batch_tokens))
        progress.advance(len(passages))
    return np.concatenate(blocks)


def pair(
    queries: Sequence[str],
    encoded: np.ndarray,  # (queries, dim)
    vectors: np.ndarray,  # (passages, dim)
) -> list[tuple[int, int, float]]:
    """(query, passage, similarity) by falling similarity, ``MOST`` at most; a passage is shown with one query alone."""
    found = top_k(encoded, vectors, min(8, len(vectors)))
    ranked = sorted(
        (
            (float(score), q, int(p))
            for q in range(len(queries))
            for p, score in zip(found.rows[q], found.scores[q], strict=True)
        ),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    pairs: list[tuple[int, int, float]] = []
    taken_queries: set[int] = set()
    taken_passages: set[int] = set()
    for score, q, p in ranked:
        if q not in taken_queries and p not in taken_passages and len(pairs) < MOST:
            taken_queries.add(q)
            taken_passages.add(p)
            pairs.append((q, p, round(score, 6)))
    return pairs


def groups(demonstrations: Sequence[Demonstration], shown: int, seed: int) -> list[list[Demonstration]]:
    """Demonstrations in groups of ``shown``, one per prompt; a last group that is short takes some of the first."""
    if not demonstrations:
        return []
    order = [demonstrations[place] for place in generator("examples-order", seed).permutation(len(demonstrations))]
    size = min(shown, len(order))
    starts = range(0, len(order), size)
    return [(order[start : start + size] + order)[:size] for start in starts]
