"""Document-level vectors: do titles and written queries, added to a document's vector, find it more often?

    GECKO_DATA_DIR=... uv run python experiments/fields.py --work /tmp/fields

For every passage of each set an LLM writes queries, which judges then accept or reject (`gecko-fret build`). The vector
of a document is that of its text plus the weighted means of its title and its queries (Wu and Cao 2024), at full width
and at 128 dims, with the published weights and with weights fitted without labels, on sentences cut out of passages.
Queries that the judges rejected are left out (`answered`), kept (`all`), or given to the passage that the judges took
for their answer (`relabelled`). Searched is the file that `gecko-fret vectors` writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import lab
import numpy as np

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.fields import read_vectors, search_documents
from gecko_fret import build_fret
from gecko_fret.config import parse_config
from gecko_fret.vectors import VectorsOptions, write_vectors

SETS = ("scifact", "fiqa_gold", "cisi")
ALONE = "text alone"
#: What is added, to the weights and the queries that count.
WAYS: dict[str, tuple[str, str]] = {
    ALONE: ("queries=0", "none"),
    "titles": ("title=0.5", "none"),
    "titles and all queries, published weights": ("published", "all"),
    "titles and answered queries, published weights": ("published", "answered"),
    "titles and relabelled queries, published weights": ("published", "relabelled"),
    "titles and all queries, fitted weights": ("fitted", "all"),
    "titles and answered queries, fitted weights": ("fitted", "answered"),
    "titles and relabelled queries, fitted weights": ("fitted", "relabelled"),
}
SMALL = {
    "documents": [8], "attempts": 1, "candidates": 3, "items": 8, "sentences": 20, "queries": 4, "passage_tokens": 24,
    "judges": ["similarity", "ql"],
}  # fmt: skip


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument(
        "--documents", nargs="+", type=int, default=[0],
        help="of every set, or of each: those that queries are judged on, so many queries as fit, and others; 0: all",
    )  # fmt: skip
    parser.add_argument("--attempts", type=int, default=2, help="queries that are asked for per passage")
    parser.add_argument("--candidates", type=int, default=10, help="passages that judges see of each query")
    parser.add_argument("--passage-tokens", type=int, default=128, help="of a passage, that the LLM reads")
    parser.add_argument("--judges", nargs="+", default=["similarity", "ql", "yes-no"])
    parser.add_argument("--items", type=int, default=48, help="known items that the judges are measured on")
    parser.add_argument("--sentences", type=int, default=200, help="that the fields' weights are fitted on")
    parser.add_argument("--dims", nargs="+", type=int, default=[384, 128])
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    given = lab.parsed(parser, SMALL)
    model = Gecko.from_pretrained(given.embedder)
    raw: dict[str, Any] = {"options": lab.options_of(given), "sets": {}}
    if len(given.documents) == 1:
        given.documents *= len(given.sets)
    for name, documents in zip(given.sets, given.documents, strict=True):
        raw["sets"][name] = scored(given, model, lab.reduced(lab.judged_set(name, given.queries), documents))
    lab.publish("fields", report(given, raw), raw, given)


def scored(given: argparse.Namespace, model: Gecko, of: lab.Judged) -> dict[str, Any]:
    """NDCG@10 of every query by way and dim, the weights, and what the queries were."""
    corpus, folder = of.corpus, given.work / of.name
    clock = lab.Clock(folder / "seconds.json")
    config = parse_config(
        {
            "llm": {"model": given.llm},
            "embedder": {"model": given.embedder},
            "generate": {"seeds": None, "attempts": given.attempts, "passage_tokens": given.passage_tokens},
            "retrieve": {"candidates": given.candidates, "cache": str(folder / "embeddings")},
            "score": {"judges": given.judges, "passage_tokens": given.passage_tokens},
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
        }
    )
    run = folder / "fret"
    clock.run("build", lambda: build_fret(config, run, corpus=corpus, progress=True))
    asked = np.asarray(model.encode_queries(list(of.data.queries), task=of.data.task))
    found: dict[str, Any] = {
        "documents": len(corpus),
        "queries": len(asked),
        "ndcg_at_10": {},
        "about": {},
        "seconds": clock.seconds,
    }
    for dim in given.dims:
        for way, (weights, queries) in WAYS.items():
            key, out = f"{way}, {dim}", folder / "vectors" / f"{weights}-{queries}-{dim}.parquet"
            if not out.exists():
                written(run, out, given, model, weights, queries, dim)
            kept = read_vectors(out)
            owners, names = kept.documents
            hits = search_documents(model.truncate(asked, dim), kept.vectors, owners, 10)
            ranked = [[names[number] for number in row if number >= 0] for row in hits.rows.tolist()]
            found["ndcg_at_10"][key] = lab.ranked_scores(ranked, of.data.judgements)
            found["about"][key] = {name: kept.about[name] for name in ("weights", "counts")} | {
                "fitted": kept.about.get("fitted")
            }
            print(of.name, key, lab.mean(found["ndcg_at_10"][key]), kept.about["weights"], flush=True)
    return found


def written(
    run: Path, out: Path, given: argparse.Namespace, model: Gecko, weights: str, queries: Any, dim: int
) -> None:
    """Write a file of vectors."""
    out.parent.mkdir(parents=True, exist_ok=True)
    options = VectorsOptions(
        weights=weights, queries=queries, dim=dim, whole=True, items=given.sentences, cache=out.parent / "encoded"
    )
    write_vectors(run, out, options, model=model, progress=True)


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    documents = [f"{name} {of['documents']} ({of['queries']} queries)" for name, of in raw["sets"].items()]
    lines = [
        "# Document-level vectors",
        "",
        f"{lab.described('torch', 'transformers')}. `experiments/fields.py`: {given.llm} writes {given.attempts} "
        f"queries a passage, judged among {given.candidates} candidates; {given.embedder} encodes. nDCG@10 in percent "
        "of the text alone, and its change with 95% intervals over the queries; those that leave out zero in bold. "
        f"Weights are fitted on up to {given.sentences} sentences cut out of the passages.",
        "",
        f"Documents: {', '.join(documents)}.",
    ]
    for dim in given.dims:
        rows = []
        for way in WAYS:
            scores = [of["ndcg_at_10"][f"{way}, {dim}"] for of in raw["sets"].values()]
            base = [of["ndcg_at_10"][f"{ALONE}, {dim}"] for of in raw["sets"].values()]
            if way == ALONE:
                rows.append([way, *map(lab.mean, base), ""])
                continue
            cells = [lab.change(a, b) for a, b in zip(scores, base, strict=True)]
            rows.append([way, *cells, lab.change_of_mean(scores, base)])
        lines += ["", f"## {dim} dims", "", *lab.table(["added to the text", *raw["sets"], "mean"], rows)]
    rows = []
    for name, of in raw["sets"].items():
        for key, about in of["about"].items():
            if about["fitted"]:
                counts, fitted = about["counts"], about["fitted"]
                weights = ", ".join(f"{field} {weight:g}" for field, weight in about["weights"].items())
                rows.append([
                    name, key, counts["queries"], counts["documents_with_queries"], weights, fitted["items"],
                    fitted["mrr"], fitted["mrr_fitted"],
                ])  # fmt: skip
    header = ["set", "way", "queries", "documents with one", "weights", "sentences", "MRR by text", "with weights"]
    return [*lines, "", "## Fitted weights", "", *lab.table(header, rows)]


if __name__ == "__main__":
    run_command(main)
