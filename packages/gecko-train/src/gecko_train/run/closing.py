"""The end of a run on one screen: the table, what it means in plain words, where things lie, how to use the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gecko_eval.report import paired_bootstrap

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10")
_NAMES = {"ndcg_at_10": "nDCG@10", "mrr_at_10": "MRR@10", "recall_at_10": "recall@10"}
_SAMPLES = 10_000


def compare_models(models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line per model and dim: means, and differences from the first model and the one before, with 95% intervals.

    ``models`` maps a model's name to ``{dim: {metric: [value per query]}}``, in the order they were made.
    """
    start = next(iter(models.values()))
    lines = []
    before: tuple[str, Mapping[str, Any]] | None = None
    for name, by_dim in models.items():
        for dim, metrics in by_dim.items():
            line: dict[str, Any] = {"model": name, "dim": int(dim)}
            for metric in METRICS:
                line[metric] = float(np.mean(metrics[metric]))
                if before is not None:
                    line[f"{metric}_difference"] = _difference(metrics[metric], start[dim][metric])
                    line[f"{metric}_step"] = _difference(metrics[metric], before[1][dim][metric])
                    line["before"] = before[0]
            lines.append(line)
        before = (name, by_dim)
    return lines


def _difference(new: Sequence[float], old: Sequence[float]) -> list[float]:
    found = paired_bootstrap(np.array(new), np.array(old), samples=_SAMPLES)
    return [float(found.difference), float(found.low), float(found.high)]


def verdict(lines: Sequence[Mapping[str, Any]], queries: int) -> list[str]:
    """What the table says, in sentences, stage by stage; a fall is called a fall."""
    level = {(line["model"], line["dim"]): line["ndcg_at_10"] for line in lines}
    start = lines[0]["model"]
    sentences = []
    for line in lines:
        if line["model"] == start:
            continue
        place, after = f"{line['model']}, {line['dim']} dims: nDCG@10", line["ndcg_at_10"]
        said = _change(line["ndcg_at_10_difference"], level[start, line["dim"]], after)
        if line["before"] != start:
            step = _change(line["ndcg_at_10_step"], level[line["before"], line["dim"]], after)
            said = f"{said} since the {start} model; since {line['before']} it {step}"
        sentences.append(f"{place} {said}.")
    sentences.append(
        f"Known-item search over {queries} held-out passages says how well a title finds its passage in this corpus; "
        "it is no claim about other tasks."
    )
    return sentences


def _change(difference: Sequence[float], before: float, after: float) -> str:
    shown = "{:.3f} to {:.3f} ({:+.3f}, 95% interval {:+.3f} to {:+.3f})".format(before, after, *difference)
    if difference[1] > 0:
        return f"rose from {shown}"
    if difference[2] < 0:
        return f"FELL from {shown}"
    return f"did not clearly change: {shown}"


def score_table(lines: Sequence[Mapping[str, Any]], title: str) -> Table:
    """The models at every dim as a rich table."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    table.add_column("dims", justify="right")
    for metric in METRICS:
        table.add_column(_NAMES[metric], justify="right")
    table.add_column("nDCG@10 against start [95% interval]", justify="right")
    previous = None
    for line in lines:
        if previous is not None and line["model"] != previous:
            table.add_section()
        difference = line.get("ndcg_at_10_difference")
        shown = "" if difference is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)
        colour = "" if difference is None else "green" if difference[1] > 0 else "red" if difference[2] < 0 else ""
        table.add_row(
            "" if line["model"] == previous else line["model"],
            str(line["dim"]),
            *(f"{line[metric]:.3f}" for metric in METRICS),
            f"[{colour}]{shown.replace('[', chr(92) + '[')}[/]" if colour else shown.replace("[", "\\["),
        )
        previous = line["model"]
    return table


def stage_table(stages: Sequence[Mapping[str, Any]]) -> Table:
    """What each stage did, how long it took and the peak memory after it."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("peak GB", justify="right")
    table.add_column("what happened")
    for stage in stages:
        table.add_row(stage["title"], f"{stage['seconds']:.0f}", f"{stage['peak_memory_gb']:.1f}", stage["note"])
    total = sum(stage["seconds"] for stage in stages)
    table.add_section()
    table.add_row("all", f"{total:.0f}", f"{max(stage['peak_memory_gb'] for stage in stages):.1f}", "")
    return table


def closing_screen(console: Console, results: Mapping[str, Any], folder: Path) -> None:
    """Print the whole screen from ``results.json``'s content."""
    console.print()
    console.print(stage_table(results["stages"]))
    console.print(
        score_table(
            results["scores"], f"Known-item search: {results['queries']} queries, {results['documents']} documents"
        )
    )
    for sentence in results["verdict"]:
        console.print(sentence, highlight=False, soft_wrap=True)
    console.print()
    for what, where in results["files"].items():
        console.print(f"  {what:<14} {folder / where}", highlight=False, soft_wrap=True)
    console.print("\nUse the model:\n", highlight=False)
    for line in usage(folder / "model"):
        console.print(f"    {line}", highlight=False, soft_wrap=True, markup=False)


def usage(model: Path) -> list[str]:
    """Three lines that use the saved model."""
    return [
        "from gecko_core import Gecko",
        f'model = Gecko.from_pretrained("{model}")',
        'print(model.similarity(model.encode_queries(["open a file"]), model.encode_documents(["open(): ..."])))',
    ]
