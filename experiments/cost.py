"""When to stop, and when a larger LLM is worth more than more queries: quality against minutes of LLM time.

    GECKO_DATA_DIR=... uv run python experiments/cost.py --work /tmp/cost [--pairs smollm2-135m-instruct BIGGER@64 ...]

One LLM writes, one judges (`WRITER:JUDGE`, or a single name for both; `@64`: at most so many lists). A build is made
for the most lists that are asked for; the student is then trained on its first 16, 64, 256, ... rows, as often on
each. Minutes are those of the steps that ask an LLM (write, measure, score); of a part of the rows as large a part of
write and score.

The page keeps the pairs that docs/results/cost.json has of earlier runs with the same options.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import lab

from gecko_core import Gecko
from gecko_core.command import run_command
from gecko_core.io import read_json
from gecko_fret import build_fret, load_fret
from gecko_fret.config import parse_config

SETS = ("scifact", "cisi")
PASSES = 3
BATCH = 16
SMALL = {"lists": [4, 8], "candidates": 4, "items": 12}


def main() -> None:
    parser = lab.arguments(__doc__, SETS)
    parser.add_argument("--pairs", nargs="+", default=["smollm2-135m-instruct"], help="WRITER:JUDGE or one; @LISTS")
    parser.add_argument("--lists", nargs="+", type=int, default=[16, 64, 256, 1024])
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--items", type=int, default=48, help="known items that the judges are measured on")
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--student", default="all-minilm-l6-v2")
    given = lab.parsed(parser, SMALL)
    raw: dict[str, Any] = {"options": lab.options_of(given), "sets": {}}
    for name in given.sets:
        judged = lab.judged_set(name, given.queries)
        start = lab.kept(given.work / name / "start.json", lambda j=judged: scores(given.student, j))["ndcg_at_10"]
        pairs: dict[str, Any] = {}
        for pair in given.pairs:
            points = [point(given, judged, pair, lists) for lists in lists_of(pair, given.lists)]
            shown = ", ".join(f"{p['lists']} lists {p['minutes']:.1f} min {lab.mean(p['ndcg_at_10'])}" for p in points)
            print(name, label(pair), shown, flush=True)
            made = lab.described("torch", "transformers")
            pairs[label(pair)] = {"made": made, "start": start, "points": points}
        raw["sets"][name] = pairs
    if not given.no_publish:
        for name, pairs in lab.earlier(lab.RESULTS / "cost.json", raw, {"pairs", "lists"}).items():
            raw["sets"][name] = pairs | raw["sets"].get(name, {})
    lab.publish("cost", report(given, raw), raw, given, plot(raw))


def scores(model: str, judged: lab.Judged) -> dict[str, list[float]]:
    return {"ndcg_at_10": lab.scores_of(Gecko.from_pretrained(model), judged.data)}


def point(given: argparse.Namespace, judged: lab.Judged, pair: str, lists: int) -> dict[str, Any]:
    """The scores of a student of so many lists, trained and as the run saved it, and the minutes that an LLM took."""
    folder = built(given, judged, pair)
    rows = min(lists, len(load_fret(folder)))
    out = given.work / judged.name / "models" / f"{label(pair)}-{lists}"
    clock = lab.Clock(given.work / judged.name / "seconds.json")
    model = lab.finetuned(
        out, given.student,
        {
            "sets": [{"source": "fret", "path": str(folder), "limit": rows}],
            "objective": {"contrastive_weight": 0, "kl": {"weight": 1.0, "documents": 8}},
        },
        clock, name=out.name, seed=0, batch_size=min(BATCH, rows),
        max_steps=math.ceil(PASSES * rows / BATCH), learning_rate=given.rate,
    )  # fmt: skip
    found = lab.kept(out / "scores.json", lambda: scores(str(model), judged))["ndcg_at_10"]
    end = lab.kept(out / "trained.json", lambda: scores(str(out / "finetune" / "model"), judged))["ndcg_at_10"]
    return {"lists": rows, "minutes": minutes(folder, rows), "trained": end, "ndcg_at_10": found}


def built(given: argparse.Namespace, judged: lab.Judged, pair: str) -> Path:
    """A FRet folder with enough rows; a build that was stopped goes on."""
    writer, _, judge = pair.partition("@")[0].partition(":")
    folder = given.work / judged.name / label(pair)
    most = max(lists_of(pair, given.lists))
    seeds = min(math.ceil(most * 0.75), len(judged.corpus))  # two attempts a seed, some of them rejects
    config = parse_config(
        {
            "llm": {"model": judge or writer},
            "generators": [{"model": writer}],
            "embedder": {"model": given.student},
            "generate": {"seeds": seeds, "attempts": 2, "user_task": judged.data.task},
            "measure": {"items": given.items, "candidates": given.candidates, "seeds": 0},
            "retrieve": {
                "candidates": given.candidates, "part_size": 256, "cache": str(given.work / judged.name / "embeddings"),
            },
        }
    )  # fmt: skip
    build_fret(config, folder, corpus=judged.corpus, progress=True)
    return folder


def minutes(folder: Path, rows: int) -> float:
    """LLM time of the first rows of a build."""
    stages = read_json(folder / "manifest.json")["stages"]
    share = rows / len(load_fret(folder))
    seconds = stages["measure"]["seconds"] + share * (stages["write"]["seconds"] + stages["score"]["seconds"])
    return float(seconds / 60)


def lists_of(pair: str, lists: list[int]) -> list[int]:
    """The numbers of lists that a pair is asked for."""
    most = pair.partition("@")[2]
    return [number for number in lists if not most or number <= int(most)]


def label(pair: str) -> str:
    """A folder's name: the names of the models, without their folders."""
    return "+".join(Path(name).name for name in pair.partition("@")[0].split(":"))


def report(given: argparse.Namespace, raw: dict[str, Any]) -> list[str]:
    """The page."""
    lines = [
        "# Cost",
        "",
        f"`experiments/cost.py`: student {given.student}, lists of 8, {PASSES} passes at {given.rate:g}. Minutes of LLM"
        " time on the machine named below, to be compared on one machine alone; nDCG@10 in percent at the end of "
        "training, and of what the run saved, by known items of its own, with their changes and 95% intervals over the "
        "queries; start kept: the items supported no share of the training.",
        "",
    ]
    for name, pairs in raw["sets"].items():
        rows: list[list[object]] = [
            [pair, p["lists"], f"{p['minutes']:.1f}", lab.mean(p["trained"]),
             lab.change(p["trained"], of["start"]), lab.change_of_model(p["ndcg_at_10"], of["start"])]
            for pair, of in pairs.items()
            for p in of["points"]
        ]  # fmt: skip
        starts = dict.fromkeys(lab.mean(of["start"]) for of in pairs.values())
        lines += [f"## {name} (start {', '.join(starts)})", ""]
        header = ["LLM (writer+judge)", "lists", "minutes", "nDCG@10 at the end", "change", "change of the saved"]
        lines += [*lab.table(header, rows), ""]
        lines += [*(f"- {pair}: {of['made']}" for pair, of in pairs.items()), ""]
    return [*lines, "![Quality against minutes](cost.png)"]


def plot(raw: dict[str, Any]) -> Any:
    """Change of nDCG@10 against minutes of LLM time."""
    from matplotlib.figure import Figure

    from gecko_eval import paired_bootstrap

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    minutes = [p["minutes"] for pairs in raw["sets"].values() for of in pairs.values() for p in of["points"]]
    steps = [digit * 10.0**power for power in range(-2, 5) for digit in (1, 2, 5)]
    ticks = [one for one in steps if min(minutes) / 1.5 <= one <= max(minutes) * 1.5]
    for axes, (key, title) in zip(
        panels, (("ndcg_at_10", "what was saved"), ("trained", "end of training")), strict=True
    ):
        for name, pairs in raw["sets"].items():
            for pair, of in pairs.items():
                points = of["points"]
                found = [paired_bootstrap(p[key], of["start"], samples=2000) for p in points]
                errors = [[f.difference - f.low for f in found], [f.high - f.difference for f in found]]
                axes.errorbar(
                    [p["minutes"] for p in points], [f.difference for f in found], errors,
                    marker="o", capsize=2, label=f"{name}, {pair}",
                )  # fmt: skip
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{one:g}" for one in ticks])
        axes.minorticks_off()
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("minutes of LLM time")
    panels[0].set_ylabel("change of nDCG@10, 95% interval")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center")
    return figure


if __name__ == "__main__":
    run_command(main)
