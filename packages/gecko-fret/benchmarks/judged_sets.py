"""Judges, and their calibrated fusion, as rankers of real queries of judged sets; weights are fitted without labels.

Every judge puts the embedder's top 20 in order anew; nDCG@10 over the judged queries. `calibrated` fuses the judges
that a build asks by default, `calibrated, all` every one of the table. Scores are kept in the work folder, so that a
run that was stopped goes on.

GECKO_DATA_DIR=... uv run python packages/gecko-fret/benchmarks/judged_sets.py --work /tmp/judged
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from machine import described, publish, table

from gecko_core.io import make_progress, read_json, write_json
from gecko_eval import load_beir
from gecko_eval.metrics import ranking_metrics
from gecko_fret.build.judges import measure_judges, measuring_config
from gecko_fret.config import DEFAULT_JUDGES, FretConfig, parse_config
from gecko_fret.corpus import Corpus, Passage
from gecko_fret.judges import JUDGES, Pair
from gecko_fret.models import Models
from gecko_fret.prompting import load_prompts
from gecko_fret.steps import MEASURE, RETRIEVE, BuildContext
from gecko_fret.steps.judging import make_panel
from gecko_fret.steps.measured import fit_judges
from gecko_fret.steps.mine import Judged, fuse, fuse_calibrated

SETS = ("scifact", "fiqa_gold", "cisi", "dbpedia_5k")
NAMES = ["similarity", "ql", "yes-no", "bm25"]
PAPER = ("ql", "rc")
QUERIES_AT_ONCE = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the measurements and scores")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--queries", type=int, default=60, help="judged queries of each set")
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--judges", nargs="+", default=NAMES, help="similarity first")
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    options = parser.parse_args()
    raw = {"llm": {"model": options.llm}, "measure": {"items": options.items, "seeds": 8}}
    config = measuring_config(parse_config(raw), options.judges)
    models, rows, gains = Models(), [], []
    for name in options.sets:
        cells = judge_set(name, config, models, options.work / name, options.queries)
        rows.append([name, *cells.values()])
        single = [cells[judge] for judge in options.judges]
        gains.append((cells["calibrated"] - cells["similarity"], cells["calibrated"] - max(single)))
    over_student, over_best = np.mean(gains, axis=0)
    publish(
        "judged_sets",
        [
            "# Judges on judged sets",
            "",
            f"{described('torch', 'transformers', 'scipy')}. {options.llm}, all-MiniLM-L6-v2's top 20, up to "
            f"{options.queries} queries a set, weights from {options.items} known items of each corpus, no labels.",
            "",
            *table(["set", *cells], rows),
            "",
            f"Calibrated fusion less the similarity: {over_student:+.1f} nDCG@10 on average; less the best judge "
            f"(chosen with the labels): {over_best:+.1f}.",
        ],
    )


def judge_set(name: str, config: FretConfig, models: Models, work: Path, most: int) -> dict[str, object]:
    """The cells of a set's row by column, but for its name; nDCG@10 in percent."""
    data = load_beir(name, unjudged="drop")
    titles = data.titles or [None] * len(data.docs)
    corpus = Corpus(
        [Passage(i, t, d) for i, t, d in zip(data.doc_ids, titles, data.docs, strict=True) if d.strip()], name=name
    )
    measure_judges(config, work, ["default"], corpus=corpus, progress=True, models=models)
    settings = config.model_copy(
        update={"retrieve": config.retrieve.model_copy(update={"cache": str(work / "embeddings")})}
    )
    build = BuildContext(work / "default", settings, corpus, models)
    items = list(MEASURE.parts(build.out, settings))
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.queries))[:most]).tolist()
    judged = _judge(build, [data.queries[row] for row in chosen], work / "judged.json")
    judgements = [data.judgements[row] for row in chosen]

    def ndcg(order: list[list[str]]) -> float:
        return round(100 * float(ranking_metrics(order, judgements)["ndcg_at_10"].mean()), 1)

    def by(key: str) -> list[list[str]]:
        return [[c.id for c in sorted(row, key=lambda c: (-c.scores[key], -c.similarity))] for row in judged]

    names = config.score.all_judges
    cells: dict[str, object] = {"queries": len(chosen)}
    weights: list[str] = []
    cells |= {judge: ndcg(by(judge)) for judge in config.score.judges or ()}
    for title, judges in (("calibrated", DEFAULT_JUDGES["calibrated"]), ("calibrated, all", names)):
        fusion = fit_judges(items, parse_config({"score": {"judges": list(judges)}}))
        cells[title] = ndcg([[c.id for c in fuse_calibrated(row, fusion)] for row in judged])
        weights.append(", ".join(f"{judge} {weight:.2f}" for judge, weight in fusion.weights.items() if weight))
    if all(judge in names for judge in PAPER):
        paper = [[Judged(c.id, c.similarity, {n: c.scores[n] for n in PAPER}) for c in row] for row in judged]
        for k in (0, 60):
            cells[f"rrf of ql and rc, k = {k}"] = ndcg([[c.id for c in fuse(row, k)] for row in paper])
    answers = zip(judged, judgements, strict=True)
    cells["oracle"] = ndcg([sorted((c.id for c in row), key=lambda i: -told.get(i, 0)) for row, told in answers])
    cells["weights"] = "; ".join(weights)
    return cells


def _judge(build: BuildContext, queries: list[str], kept: Path) -> list[list[Judged]]:
    """Every judge's scores of the candidates of every query, kept in a file."""
    rows = read_json(kept) if kept.exists() else {"queries": []}
    done = rows["queries"]
    progress = make_progress(True)
    progress.start("judge", len(queries), len(done), "queries")
    panel, task = make_panel(build, build.config.score.all_judges), load_prompts("default").kinds[0]
    vectors = build.models.embedder(build.config.embedder).encode_queries(queries, task=task)
    found, similarities = RETRIEVE.index(build).search(vectors, build.config.retrieve.candidates)
    while len(done) < len(queries):
        places = range(len(done), min(len(done) + QUERIES_AT_ONCE, len(queries)))
        pairs = [
            Pair(str(place), task, queries[place], build.corpus[int(row)], float(similarity))
            for place in places
            for row, similarity in zip(found[place], similarities[place], strict=True)
        ]
        grouped: dict[str, list[object]] = {}
        for pair, scored in zip(pairs, panel(pairs).rows, strict=True):
            values = {name: JUDGES[name].value(value) for name, value in scored.judgements.items()}
            grouped.setdefault(pair.query_id, []).append([pair.passage.id, pair.similarity, values])
        done += grouped.values()
        write_json(kept, rows)
        progress.advance(len(places))
    progress.finish()
    return [[Judged(*candidate) for candidate in row] for row in done[: len(queries)]]


if __name__ == "__main__":
    main()
