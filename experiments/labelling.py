"""Which labels teach? The paper's table of positives and negatives, beside calibrated labels and lists.

    GECKO_DATA_DIR=... uv run python experiments/labelling.py --work /tmp/labelling

For each corpus the LLM writes queries once and judges their neighbours once; the same scores then become labels in
several ways, and a student is trained on each, for as many steps. `seed` and `p_1` as the positive, nothing, a random
candidate or `p_N` as the hard negative: the paper's table, with its fusion of `ql` and `rc` (k = 0). `calibrated`:
positives and negatives by calibrated probabilities, those below `mine.min_probability` left out. `lists`: KL to these
probabilities. What is saved is the end of training, so that the labels alone make the difference.

The page keeps what docs/results/labelling.json has of other corpora, from earlier runs with the same options.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import lab
import numpy as np

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.io import find_data
from gecko_fret import build_fret
from gecko_fret.config import parse_config
from gecko_fret.corpus import load_corpus

SETS = ("scifact", "fiqa_gold")
#: A corpus that no judged set goes with: general passages, as the paper's seeds are.
SEEDS = "seed_passages"
OBJECTIVE = {"temperature": 0.02, "same_tower": True, "negatives_scope": "own"}
#: Labels to the build that they are of, options of the source, the objective.
WAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    f"{positive}, {negative}": (
        "rrf",
        {"positive": positive, "negative": negative},
        {**OBJECTIVE, "hard_negatives": 0 if negative == "none" else 1},
    )
    for positive in ("seed", "p_1")
    for negative in ("none", "random", "p_N")
} | {
    "calibrated, none": ("calibrated", {"negative": "none"}, {**OBJECTIVE, "hard_negatives": 0}),
    "calibrated, p_N": ("calibrated", {}, {**OBJECTIVE, "hard_negatives": 1}),
    "lists": ("calibrated", {}, {"contrastive_weight": 0, "kl": {"weight": 1.0, "documents": 8}}),
    "lists and calibrated, p_N": (
        "calibrated", {}, {**OBJECTIVE, "hard_negatives": 1, "kl": {"weight": 1.0, "documents": 8}},
    ),
}  # fmt: skip
SMALL = {"seeds": 4, "candidates": 4, "steps": 2, "items": 12, "ways": ["p_1, p_N", "lists"], "corpora": ["-"]}


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument("--corpora", nargs="+", default=[*SETS, SEEDS], help="what FRet is made from")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=150, help="passages that the LLM writes two queries for")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--items", type=int, default=48, help="known items that the judges are measured on")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--runs", type=int, default=1, help="seeds of the training")
    parser.add_argument("--part", type=int, default=32, help=lab.PART)
    parser.add_argument("--llm", default="smollm2-135m-instruct")
    parser.add_argument("--student", default="all-minilm-l6-v2")
    given = lab.parsed(parser, SMALL)
    if given.small:
        given.corpora = given.sets
    sets = {name: lab.judged_set(name, given.queries) for name in given.sets}
    start = {name: lab.kept(given.work / "start" / f"{name}.json", lambda n=name: scores(given.student, sets[n]))
             for name in sets}  # fmt: skip
    raw: dict[str, Any] = {"options": lab.options_of(given), "corpora": {}}
    for corpus in given.corpora:
        clock = lab.Clock(given.work / corpus / "seconds.json")
        raw["corpora"][corpus] = {
            "start": {name: of["ndcg_at_10"] for name, of in start.items()},
            "made": lab.described("torch", "transformers"),
            "ndcg_at_10": {},
        }
        for way in given.ways:
            found = {name: trained_scores(given, corpus, way, sets[name], clock) for name in sets}
            raw["corpora"][corpus]["ndcg_at_10"][way] = found
            print(corpus, way, *(f"{name} {lab.mean(np.ravel(of))}" for name, of in found.items()), flush=True)
        raw["corpora"][corpus]["seconds"] = clock.seconds
    if not given.no_publish:
        before = lab.earlier(lab.RESULTS / "labelling.json", raw, {"corpora", "ways", "part"}, of="corpora")
        raw["corpora"] = before | raw["corpora"]
    lab.publish("labelling", report(given, raw), raw, given)


def scores(model: str, judged: lab.Judged) -> dict[str, list[float]]:
    return {"ndcg_at_10": lab.scores_of(Gecko.from_pretrained(model), judged.data)}


def trained_scores(
    given: argparse.Namespace, corpus: str, way: str, judged: lab.Judged, clock: lab.Clock
) -> list[list[float]]:
    """Of every training seed, the scores of every query."""
    found = []
    for seed in range(given.runs):
        model = trained(given, corpus, way, seed, clock)
        path = model.parent / "scores" / f"{judged.name}-{given.queries}.json"
        found.append(lab.kept(path, lambda model=model: scores(str(model), judged))["ndcg_at_10"])
    return found


def built(given: argparse.Namespace, corpus: str, fuse: str, clock: lab.Clock) -> Path:
    """The FRet folder of a fusion; that of the second one begins as a copy of the first, of whose scores it is made."""
    folder = given.work / corpus / fuse
    if fuse == "rrf" and not folder.exists():
        unfinished = folder.with_name("rrf.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(built(given, corpus, "calibrated", clock), unfinished)
        unfinished.rename(folder)
    of = lab.judged_set(corpus).corpus if corpus != SEEDS else load_corpus(find_data(Path(SEEDS, "corpus.jsonl.gz")))
    config = parse_config(
        {
            "llm": {"model": given.llm},
            "embedder": {"model": given.student},
            # What depends on the fusion by default is the same for both here.
            "generate": {
                "seeds": min(given.seeds, len(of)), "attempts": 2, "neighbourhoods": 8, "write_task": False,
                "contrast": 0.5, "part_size": given.part,
            },
            "retrieve": {"candidates": given.candidates, "seed_top_k": None, "part_size": 8 * given.part,
                         "cache": str(given.work / corpus / "embeddings")},
            "score": {"judges": ["similarity", "ql", "rc", "yes-no"], "mode": "joint", "blocks": True,
                      "calibrate": True, "skip_useless": False},
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
            "mine": {"fuse": fuse},
        }
    )  # fmt: skip
    clock.run(f"build {fuse}", lambda: build_fret(config, folder, corpus=of, progress=True, force=fuse == "rrf"))
    return folder


def trained(given: argparse.Namespace, corpus: str, way: str, seed: int, clock: lab.Clock) -> Path:
    """The folder of a model, trained where it is missing."""
    fuse, options, objective = WAYS[way]
    out = given.work / corpus / "models" / f"{way.replace(', ', '-').replace(' ', '-')}-{seed}"
    if (out / "model").exists():
        return out / "model"
    of_source = {"source": "fret", "path": str(built(given, corpus, fuse, clock)), "options": options}
    stage = {"sets": [of_source], "objective": objective, "interpolate": None}
    return lab.finetuned(
        out, given.student, stage, clock, name=way, seed=seed,
        batch_size=given.batch, max_steps=given.steps, learning_rate=given.rate,
    )  # fmt: skip


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    lines = [
        "# Labelling",
        "",
        f"`experiments/labelling.py`: {given.llm} writes two queries for "
        f"each of {given.seeds} passages and judges {given.candidates} neighbours of each; {given.student} is trained "
        f"on the same queries with different labels, {given.steps} steps of {given.batch} rows at {given.rate:g}, "
        f"{given.runs} seed(s). Change of nDCG@10 in percent against the untrained student with 95% intervals over the "
        "queries; those that leave out zero in bold.",
        "",
    ]
    for corpus, of in raw["corpora"].items():
        start = of["start"]
        rows: list[list[object]] = []
        for way, found in of["ndcg_at_10"].items():
            averaged = {name: [sum(q) / len(q) for q in zip(*runs, strict=True)] for name, runs in found.items()}
            cells = [lab.change(averaged[name], start[name]) for name in start]
            rows.append([way, *cells, lab.change_of_mean(list(averaged.values()), [start[n] for n in averaged])])
        untrained = ", ".join(f"{name} {lab.mean(values)}" for name, values in start.items())
        minutes = sum(of["seconds"].values()) / 60
        lines += [
            f"## FRet from {corpus}",
            "",
            *lab.table(["positive, negative", *start, "mean"], rows),
            "",
            f"Untrained: {untrained}. {minutes:.0f} minutes of building and training. {of['made']}.",
            "",
        ]
    return lines[:-1]


if __name__ == "__main__":
    run_command(main)
