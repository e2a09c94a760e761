"""Who finds the candidates? The embedder alone, or fewer by the embedder and further ones by BM25 (``retrieve.bm25``).

    GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/candidates.py --work /tmp/candidates

For judged sets, with their own queries: the share of the relevant passages that are among as many candidates, and
nDCG@10 of the best order of these, which no judge can pass. For python-docs: titles, and passages without theirs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from machine import described, publish, table

from gecko_core import Gecko
from gecko_core.randomness import generator
from gecko_core.search import top_k
from gecko_eval import load_beir
from gecko_eval.metrics import ranking_metrics
from gecko_fret.config import Bm25Config
from gecko_fret.corpus import Corpus, Passage, python_docs
from gecko_fret.steps.lexical import LexicalIndex

SETS = ("python-docs", "scifact", "fiqa_gold", "cisi", "dbpedia_5k", "hotpotqa_sample")
Queries = dict[str, tuple[str, dict[str, int]]]  # id to text and relevant passages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the vectors")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--queries", type=int, default=300, help="most queries of a set")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--by-words", type=int, nargs="+", default=[5, 10, 20], help="of them, by BM25")
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    options = parser.parse_args()
    model = Gecko.from_pretrained(options.embedder)
    rows: list[list[object]] = []
    for name in options.sets:
        corpus, queries = read_set(name, options.queries)
        near = nearest(model, corpus, queries, options.work / f"{name}.npy", options.candidates)
        words = LexicalIndex(corpus, Bm25Config())
        worded = words.search([text for text, _ in queries.values()], 2 * options.candidates)
        cells = [
            shown(corpus, queries, both(near, worded, options.candidates, count)) for count in (0, *options.by_words)
        ]
        rows.append([name, len(queries), *cells])
        print(*rows[-1], flush=True)
    ways = ["the embedder alone", *(f"{count} by BM25" for count in options.by_words)]
    publish(
        "candidates",
        [
            "# Who finds the candidates",
            "",
            f"{described('torch', 'bm25s')}. {options.embedder}; {options.candidates} candidates of each query. Share "
            "of the relevant passages among them / nDCG@10 of their best order, in percent.",
            "",
            *table(["set", "queries", *ways], rows),
        ],
    )


def read_set(name: str, most: int) -> tuple[Corpus, Queries]:
    """Passages, and queries with what is relevant to them."""
    if name == "python-docs":
        docs = python_docs()
        untitled = [Passage(p.id, None, p.text) for p in docs]
        titled = [p for p in docs if p.title]
        queries: Queries = {p.id: (p.title or "", {p.id: 1}) for p in titled}
        return Corpus(untitled, name), drawn(queries, most)
    data = load_beir(name, unjudged="drop")
    titles = data.titles or [None] * len(data.docs)
    rows = zip(data.doc_ids, titles, data.docs, strict=True)
    corpus = Corpus([Passage(i, title or None, text) for i, title, text in rows if text.strip()], name)
    ids = set(corpus.ids)
    queries = {}
    for identifier, text in zip(data.query_ids, data.queries, strict=True):
        relevant = {i: gain for i, gain in data.qrels[identifier].items() if gain > 0 and i in ids}
        if relevant:
            queries[identifier] = text, relevant
    return corpus, drawn(queries, most)


def drawn(queries: Queries, most: int) -> Queries:
    """At most so many of the queries."""
    keys = list(queries)
    chosen = generator("candidates", 0).permutation(len(keys))[:most]
    return {keys[place]: queries[keys[place]] for place in sorted(chosen.tolist())}


def nearest(model: Gecko, corpus: Corpus, queries: Queries, path: Path, count: int) -> list[list[int]]:
    """Rows of the passages nearest to each query."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, model.encode_documents(corpus.texts, corpus.titles))
    vectors = model.encode_queries([text for text, _ in queries.values()])
    return [[int(row) for row in rows] for rows in top_k(vectors, np.load(path), count).rows]


def both(near: list[list[int]], worded: list[list[int]], count: int, by_words: int) -> list[list[int]]:
    """As a build has them: the nearest, then those that BM25 alone found; others fill up where it finds too few."""
    found = []
    for rows, others in zip(near, worded, strict=True):
        first = rows[: count - by_words]
        further = [row for row in others if row not in set(first)][:by_words]
        rest = [row for row in rows if row not in {*first, *further}]
        found.append([*first, *further, *rest][:count])
    return found


def shown(corpus: Corpus, queries: Queries, found: list[list[int]]) -> str:
    """Share of the relevant ones, and the best order's score."""
    judgements = [relevant for _, relevant in queries.values()]
    ids = [[corpus[row].id for row in rows] for rows in found]
    shares = [len(judged.keys() & set(there)) / len(judged) for judged, there in zip(judgements, ids, strict=True)]
    best = [sorted(there, key=lambda i: -judged.get(i, 0)) for judged, there in zip(judgements, ids, strict=True)]
    return f"{100 * np.mean(shares):.1f} / {100 * ranking_metrics(best, judgements)['ndcg_at_10'].mean():.1f}"


if __name__ == "__main__":
    main()
