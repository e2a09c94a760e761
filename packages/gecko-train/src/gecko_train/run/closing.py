"""The end of a run on one screen: scores, what they mean in plain words, where the files are, how to use the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gecko_eval.report import FEWEST, paired_bootstrap
from gecko_train.run.choice import choice_lines

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_10")
_NAMES = {"ndcg_at_10": "nDCG@10", "mrr_at_10": "MRR@10", "recall_at_10": "recall@10"}
_SAMPLES = 10_000


def compare_models(models: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Compare each model with the first one and with the one before.

    Args:
        models: a model's name to ``{dim: {metric: [value per query]}}``, in the order the models were made.

    Returns:
        One line per model and dim: means, and differences with 95% intervals.
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
                    line |= _difference(f"{metric}_difference", metrics[metric], start[dim][metric])
                    line |= _difference(f"{metric}_step", metrics[metric], before[1][dim][metric])
                    line["before"] = before[0]
            lines.append(line)
        before = (name, by_dim)
    return lines


def _difference(name: str, new: Sequence[float], old: Sequence[float]) -> dict[str, Any]:
    estimate = paired_bootstrap(np.array(new), np.array(old), samples=_SAMPLES)
    # Metrics are between 0 and 1; of one query the interval is infinite.
    ends = (max(-1.0, float(estimate.low)), min(1.0, float(estimate.high)))
    return {name: [float(estimate.difference), *ends], f"{name}_significant": estimate.significant}


def verdict(lines: Sequence[Mapping[str, Any]], queries: int) -> list[str]:
    """What the table says, in sentences, model by model; a fall is called a fall.

    Args:
        lines: what ``compare_models`` returns.
        queries: queries of the test.
    """
    level = {(line["model"], line["dim"]): line["ndcg_at_10"] for line in lines}
    start = lines[0]["model"]
    sentences = []
    for line in lines:
        if line["model"] == start:
            continue
        subject, after = f"{line['model']}, {line['dim']} dims: nDCG@10", line["ndcg_at_10"]
        if not any(any(line[f"{metric}_step"]) for metric in METRICS):
            sentences.append(f"{subject} is {after:.3f}, each query as with the {line['before']} model.")
            continue
        change = _change(line, "ndcg_at_10_difference", level[start, line["dim"]], queries)
        if line["before"] != start:
            step = _change(line, "ndcg_at_10_step", level[line["before"], line["dim"]], queries)
            change = f"{change} since the {start} model; since {line['before']} it {step}"
        sentences.append(f"{subject} {change}.")
    sentences.append(
        f"Known-item search over {queries} held-out passages says how well a title finds its passage in this corpus; "
        "it is no claim about other tasks."
    )
    return sentences


def _change(line: Mapping[str, Any], name: str, before: float, queries: int) -> str:
    difference = line[name]
    numbers = (before, line["ndcg_at_10"], *difference)
    shown = "{:.3f} to {:.3f} ({:+.3f}, 95% interval {:+.3f} to {:+.3f})".format(*numbers)
    if _is_significant(line, name):
        return f"{'rose' if difference[0] > 0 else 'FELL'} from {shown}"
    few = f"; {queries} {'query is' if queries == 1 else 'queries are'} too few to tell" if queries < FEWEST else ""
    return f"did not clearly change: {shown}{few}"


def _is_significant(line: Mapping[str, Any], name: str) -> bool:
    """Whether a difference is; results of earlier versions say it by their interval alone."""
    _, low, high = line[name]
    return bool(line.get(f"{name}_significant", True)) and (low > 0 or high < 0)


# ---- the sections of the screen: results.json's content and the folder -> what is printed ----


def stage_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """What each step did, how long it took and the peak memory after it."""
    stages = results["stages"]
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
    yield table


def score_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """The models at every dim."""
    title = f"Known-item search: {results['queries']} queries, {results['documents']} documents"
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    table.add_column("dims", justify="right")
    for metric in METRICS:
        table.add_column(_NAMES[metric], justify="right")
    table.add_column("nDCG@10 against start [95% interval]", justify="right")
    previous = None
    for line in results["scores"]:
        if previous is not None and line["model"] != previous:
            table.add_section()
        table.add_row(
            "" if line["model"] == previous else line["model"],
            str(line["dim"]),
            *(f"{line[metric]:.3f}" for metric in METRICS),
            _coloured(line, "ndcg_at_10_difference"),
        )
        previous = line["model"]
    yield table


def _coloured(line: Mapping[str, Any], name: str) -> Text:
    if name not in line:
        return Text()
    difference = line[name]
    colour = ("green" if difference[0] > 0 else "red") if _is_significant(line, name) else ""
    return Text("{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference), style=colour)


def verdict_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """The verdict's sentences."""
    return [*results["verdict"], ""]


def choice_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """Which model was saved, and why; nothing where the run had no choice."""
    if "interpolation" not in results:
        return []
    first, *others = choice_lines(results["interpolation"])
    return [f"{first[0].upper()}{first[1:]}.", *(f"  {line}" for line in others), ""]


def file_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """Where the files are."""
    return [f"  {what:<14} {folder / where}" for what, where in results["files"].items()]


def usage_section(results: Mapping[str, Any], folder: Path) -> Iterable[RenderableType]:
    """Three lines that use the saved model."""
    lines = (
        "from gecko_core import Gecko",
        f'model = Gecko.from_pretrained("{folder / "model"}")',
        'print(model.similarity(model.encode_queries(["open a file"]), model.encode_documents(["open(): ..."])))',
    )
    return ["\nUse the model:\n", *(f"    {line}" for line in lines)]


SECTIONS: tuple[Callable[[Mapping[str, Any], Path], Iterable[RenderableType]], ...] = (
    stage_section,
    score_section,
    verdict_section,
    choice_section,
    file_section,
    usage_section,
)


def closing_screen(console: Console, results: Mapping[str, Any], folder: Path) -> None:
    """Print all sections.

    Args:
        console: where to.
        results: the content of ``results.json``.
        folder: the run's output folder.
    """
    console.print()
    for section in SECTIONS:
        for part in section(results, folder):
            is_text = isinstance(part, str)
            console.print(part, highlight=False, soft_wrap=is_text, markup=False)
