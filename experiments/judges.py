"""An LLM's judges, and their fusion without labels, as rankers of real queries.

    GECKO_DATA_DIR=... uv run python experiments/judges.py --work /tmp/judges

The judged queries of each set are given to a build as a query log without answers (`generate.sources: [log]`): what
it finds, what every judge says of it and the calibrated probabilities are in its rows. Each judge then orders the
embedder's candidates anew. Weights are fitted on titles and sentences of the corpus alone; what these known items say
of each judge is compared with what the real queries say.

The page keeps the sets and modes that docs/results/judges.json has of earlier runs with the same other options; each
mode is compared with the similarity of its own run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import lab
import numpy as np

from gecko_core.command import run_command
from gecko_core.io import read_json, write_text
from gecko_fret import FretRow, build_fret, load_fret
from gecko_fret.config import parse_config

SETS = ("scifact", "fiqa_gold", "cisi", "dbpedia_5k", "msmarco_5k", "hotpotqa_sample", "techqa_sample")
BASE = "similarity"
CALIBRATED = "calibrated"
#: The paper's fusion, by the constant of the reciprocal ranks.
PAPERS = tuple(f"the paper's, k = {k}, separate" for k in (0, 60))
#: Name of a column to the judges and the mode of `score.mode` that its values come from.
PROMPTS = {
    "auto": ["similarity", "ql", "yes-no", "bm25"],
    "separate": ["similarity", "ql", "rc"],
    "joint": ["similarity", "ql", "rc"],
}
SMALL = {"items": 12, "candidates": 4, "modes": ["auto", "separate"], "queries": 5}
Order = list[list[str]]


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.set_defaults(queries=100)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--items", type=int, default=48, help="known items that the judges are measured on")
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--embedder", default="all-minilm-l6-v2")
    parser.add_argument("--modes", nargs="+", default=list(PROMPTS))
    parser.add_argument("--name", default="judges", help="of the page in docs/results")
    given = lab.parsed(parser, SMALL)
    raw: dict[str, Any] = {"options": lab.options_of(given), "sets": {}}
    for name in given.sets:
        made = lab.described("torch", "transformers", "scipy")
        raw["sets"][name] = judged(given, lab.judged_set(name, given.queries))
        raw["sets"][name]["made"] = dict.fromkeys(raw["sets"][name]["seconds"], made)
        print(name, *(f"{way} {lab.mean(of)}" for way, of in raw["sets"][name]["ndcg_at_10"].items()), flush=True)
    if not given.no_publish:
        before = lab.earlier(lab.RESULTS / f"{given.name}.json", raw, {"modes", "name"})
        for name, of in before.items():
            raw["sets"][name] = both(of, raw["sets"][name]) if name in raw["sets"] else of
        raw["sets"] = {name: raw["sets"][name] for name in sorted(raw["sets"], key=[*SETS, *raw["sets"]].index)}
    lab.publish(given.name, report(given, raw), raw, given, plot(raw))


def both(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The modes of two runs over one set; of a mode that both have, the later one's."""
    modes = [mode for mode in PROMPTS if mode in before["seconds"] | now["seconds"]]
    of_mode = {mode: now if mode in now["seconds"] else before for mode in modes}
    parts = ("ndcg_at_10", "known_items", "weights", "seconds", "made")
    merged: dict[str, Any] = {part: {} for part in parts}
    for mode, run in of_mode.items():
        for part in parts:
            merged[part] |= {key: value for key, value in run[part].items() if mode_of(key) == mode}
    return merged


def mode_of(key: str) -> str:
    """The mode that a column, or another value by its name, is of."""
    last = key.rpartition(", ")[2]
    return last if last in PROMPTS else "auto"


def judged(given: argparse.Namespace, of: lab.Judged) -> dict[str, Any]:
    """NDCG@10 of every query by every way of ordering its candidates, and what the known items say of each judge."""
    folder = given.work / of.name
    folder.mkdir(parents=True, exist_ok=True)
    queries = [" ".join(query.split()) for query in of.data.queries]
    write_text(folder / "queries.txt", "".join(f"{query}\n" for query in queries))
    clock = lab.Clock(folder / "seconds.json")
    columns: dict[str, list[float]] = {}
    known: dict[str, float] = {}
    weights: dict[str, float] = {}
    for mode in given.modes:
        out = folder / mode
        config = settings(given, str(folder / "queries.txt"), str(folder / "embeddings"), mode)
        clock.run(mode, lambda out=out, config=config: build_fret(config, out, corpus=of.corpus, progress=True))
        rows = {row.query: row for row in load_fret(out)}
        missing = [query for query in queries if query not in rows]
        if missing:
            print(f"{of.name}: {len(missing)} queries left out, such as {missing[0]!r}", flush=True)
        kept = [place for place, query in enumerate(queries) if query in rows]
        answers = [of.data.judgements[place] for place in kept]
        score = scorer([rows[queries[place]] for place in kept], answers)
        manifest = read_json(out / "manifest.json")["judges"]
        suffix = "" if mode == "auto" else f", {mode}"
        for judge in PROMPTS[mode]:
            columns[judge + suffix] = score(lambda row, judge=judge: order(row, lambda c: c.scores[judge]))
            if judge != BASE or mode == given.modes[0]:
                known[judge + suffix] = known_score(manifest, judge)
        columns[CALIBRATED + suffix] = score(lambda row: [c.id for c in row.candidates])
        columns |= {f"{way}{suffix}": values for way, values in equal(score).items()}
        weights |= {judge + suffix: weight for judge, weight in manifest["weights"].items()}
        if mode != "auto":
            for k in (0, 60):
                columns[f"the paper's, k = {k}{suffix}"] = score(lambda row, k=k: rrf(row, k))
        columns["oracle" + suffix] = oracle(rows, queries, kept, answers)
    seconds = {mode: clock.seconds[mode] for mode in given.modes}
    return {"ndcg_at_10": columns, "known_items": known, "weights": weights, "seconds": seconds}


def settings(given: argparse.Namespace, log: str, cache: str, mode: str) -> Any:
    """A build whose queries are the log's, none of them filtered, every judge asked about all."""
    return parse_config(
        {
            "llm": {"model": given.llm},
            "embedder": {"model": given.embedder},
            "generate": {
                "sources": ["log"], "log": log, "min_words": 1, "max_words": 1000, "max_copied": 1.0,
                "user_task": "question answering",
            },
            "retrieve": {"candidates": given.candidates, "cache": cache},
            # The paper takes the label as the LLM gives it.
            "score": {
                "judges": PROMPTS[mode], "mode": mode, "skip_useless": False,
                **({"calibrate": False} if mode == "separate" else {}),
            },
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
        }
    )  # fmt: skip


def order(row: FretRow, value: Callable[[Any], float]) -> list[str]:
    """Ids of a row's candidates by a value, best first; equal ones by similarity."""
    return [c.id for c in sorted(row.candidates, key=lambda c: (-value(c), -c.similarity))]


def rrf(row: FretRow, k: int) -> list[str]:
    """The paper's fusion of `ql` and `rc`."""
    places = [{name: place for place, name in enumerate(order(row, by), 1)} for by in _paper()]
    return order(row, lambda c: sum(1 / (k + ranks[c.id]) for ranks in places))


def equal(score: Callable[[Callable[[FretRow], list[str]]], list[float]]) -> dict[str, list[float]]:
    """Similarity and `ql`, standardised within the list and added, for comparison."""

    def added(row: FretRow) -> list[str]:
        parts = []
        for judge in ("similarity", "ql"):
            values = np.array([c.scores[judge] for c in row.candidates])
            parts.append((values - values.mean()) / max(values.std(), 1e-9))
        total = dict(zip([c.id for c in row.candidates], np.sum(parts, axis=0).tolist(), strict=True))
        return order(row, lambda c: total[c.id])

    return {"similarity + ql, equal weights": score(added)}


def scorer(
    rows: Sequence[FretRow], answers: Sequence[dict[str, int]]
) -> Callable[[Callable[[FretRow], list[str]]], list[float]]:
    """A function from a way of ordering a row's candidates to the nDCG@10 of every row."""
    return lambda ordered: lab.ranked_scores([ordered(row) for row in rows], answers)


def oracle(
    rows: dict[str, FretRow], queries: Sequence[str], kept: Sequence[int], answers: Sequence[dict[str, int]]
) -> list[float]:
    """The best order that the candidates allow."""
    ordered = [
        order(rows[queries[place]], lambda c, told=told: told.get(c.id, 0))
        for place, told in zip(kept, answers, strict=True)
    ]
    return lab.ranked_scores(ordered, answers)


def known_score(manifest: dict[str, Any], judge: str) -> float:
    """The judge's mean reciprocal rank on titles and sentences."""
    return float(manifest["measured_on"]["known"]["rankings"][judge]["mrr"])


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    sets: dict[str, Any] = raw["sets"]
    modes = [mode for mode in PROMPTS if any(mode in of["seconds"] for of in sets.values())]
    found = {name: of["ndcg_at_10"] for name, of in sets.items()}
    there = dict.fromkeys(way for of in found.values() for way in of)
    # What is the same in every mode is shown once.
    ways = [way for way in there if way.split(", ")[0] not in (BASE, "oracle") or mode_of(way) == modes[0]]
    rows: list[list[object]] = []
    for way in sorted(ways, key=lambda way: way.startswith("oracle")):
        having = [name for name in sets if way in found[name]]
        pairs = {name: (found[name][way], base_of(found[name], way)) for name in having}
        is_base = way.split(", ")[0] == BASE and mode_of(way) == modes[0]
        cells = [
            "-"
            if name not in pairs
            else lab.mean(pairs[name][0]) + ("" if is_base else f" ({lab.change(*pairs[name])})")
            for name in sets
        ]
        change = lab.change_of_mean([a for a, _ in pairs.values()], [b for _, b in pairs.values()])
        rows.append([way, *cells, "" if is_base else change])
    places: dict[str, list[str]] = {}
    for name, of in sets.items():
        for mode, made in of["made"].items():
            places.setdefault(made, []).append(f"{name} ({mode})")
    sizes = [f"{name} ({len(next(iter(of.values())))})" for name, of in found.items()]
    return [
        "# " + given.name.replace("-", ", ", 1).capitalize(),
        "",
        f"`experiments/judges.py`: {given.llm} judges the {given.candidates} nearest passages by {given.embedder}; up "
        f"to {given.queries} judged queries a set, {given.items} known items of each corpus. nDCG@10 in percent, in "
        "brackets the difference to the similarity with its 95% interval over the queries, bold where that leaves out "
        "zero. `separate`: `ql` and `rc` in prompts of their own, `rc` as the LLM gives it; `joint`: both from one "
        "pass, `rc` less what an empty query gets; without a name: `ql` read on the way to `yes-no`. `calibrated`: all "
        "judges of the mode, weighted by the known items.",
        "",
        *lab.table(["", *sizes, "mean change"], rows),
        "",
        *weighed(sets),
        *against_paper(found),
        *agreement(sets, given.name),
        "",
        "Made with:",
        "",
        *(f"- {made}: {', '.join(names)}" for made, names in sorted(places.items())),
    ]


def weighed(sets: dict[str, Any]) -> list[str]:
    """What the known items made the judges of every mode weigh."""
    judges = list(dict.fromkeys(judge for of in sets.values() for judge in of["weights"]))
    judges.sort(key=lambda judge: list(PROMPTS).index(mode_of(judge)))
    rows = [[judge, *(f"{w:.2f}" if (w := of["weights"].get(judge)) is not None else "-" for of in sets.values())]
            for judge in judges]  # fmt: skip
    return ["Weights, fitted without labels:", "", *lab.table(["", *sets], rows), ""] if rows else []


def against_paper(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """The fusion that is calibrated without labels against the paper's, over the sets that have both.

    Twice: with the judges of the paper's prompts, and with the default ones.
    """
    lines: list[str] = []
    for ours in (f"{CALIBRATED}, separate", CALIBRATED):
        for paper in PAPERS:
            having = {name: of for name, of in found.items() if ours in of and len(of.get(paper, ())) == len(of[ours])}
            if having:
                each = "; ".join(f"{name} {lab.change(of[ours], of[paper])}" for name, of in having.items())
                mean = lab.change_of_mean([of[ours] for of in having.values()], [of[paper] for of in having.values()])
                lines.append(f"- `{ours}` against `{paper}`: {each}; mean {mean}")
    return ["The calibrated fusion against the paper's, query by query:", "", *lines, ""] if lines else []


def base_of(found: dict[str, list[float]], way: str) -> list[float]:
    """The similarity's scores in the run that a way is of."""
    mode = mode_of(way)
    return found[BASE if mode == "auto" else f"{BASE}, {mode}"]


def agreement(sets: dict[str, Any], picture: str) -> list[str]:
    """Whether the known items tell which judge is better on real queries."""
    from gecko_eval.metrics import spearman

    within: dict[str, float] = {}
    for name, of in sets.items():
        judges = [judge for judge in of["known_items"] if judge in of["ndcg_at_10"]]
        # It is the same in every mode, and counts once.
        similarities = [judge for judge in judges if judge.split(", ")[0] == BASE]
        judges = [judge for judge in judges if judge not in similarities[1:]]
        if len(judges) > 2:
            real = [float(np.mean(of["ndcg_at_10"][judge])) for judge in judges]
            within[name] = spearman(np.array([of["known_items"][judge] for judge in judges]), np.array(real))
    if not within:
        return []
    each = ", ".join(f"{name} {value:.2f}" for name, value in within.items())
    return [
        "Rank correlation, over the judges of a set, of their reciprocal rank on known items with their nDCG@10 on "
        f"real queries: {each}; mean {np.mean(list(within.values())):.2f}.",
        "",
        f"![Known items against real queries]({picture}.png)",
    ]


def plot(raw: dict[str, Any]) -> Any:
    """Each judge's mean reciprocal rank on known items against its nDCG@10 on real queries."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for (name, of), mark in zip(raw["sets"].items(), "osD^vPX*", strict=False):
        judges = list(of["known_items"])
        x = [of["known_items"][judge] for judge in judges]
        y = [float(np.mean(of["ndcg_at_10"][judge])) for judge in judges]
        axes.scatter(x, y, marker=mark, label=name, alpha=0.8)
        for judge, a, b in zip(judges, x, y, strict=True):
            axes.annotate(judge, (a, b), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel("mean reciprocal rank on known items (no labels)")
    axes.set_ylabel("nDCG@10 on real queries")
    axes.legend()
    return figure


def _paper() -> list[Callable[[Any], float]]:
    return [lambda c: c.scores["ql"], lambda c: c.scores["rc"]]


if __name__ == "__main__":
    run_command(main)
