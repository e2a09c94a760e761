"""Figures of scores and of differences, drawn without pyplot: no global state, no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gecko_core.io import whole_file
from gecko_eval.report.compare import TaskComparison

_BAR = 0.22  # inches of height


@dataclass(frozen=True)
class Bar:
    """A column of the report.

    Attributes:
        name: the legend's text.
        model: the model's number, which chooses the colour.
        paleness: 0 to below 1, the shade of the colour: one for each dim of a model.
        scores: task -> score x 100.
    """

    name: str
    model: int
    paleness: float
    scores: Mapping[str, float]


def plot_scores(groups: Mapping[str, Sequence[str]], bars: Sequence[Bar], path: Path) -> None:
    """Draw a bar for every task and column that has a score, as a PNG.

    Args:
        groups: task type -> its tasks, in order.
        bars: the columns.
        path: the file.
    """
    places: list[tuple[float, str]] = []
    drawn: dict[int, list[tuple[float, float]]] = {i: [] for i in range(len(bars))}
    heads: list[tuple[float, str]] = []
    y = 0.0
    for kind, tasks in groups.items():
        heads.append((y, kind))
        y += 1.4
        for task in tasks:
            scored = [i for i, bar in enumerate(bars) if task in bar.scores]
            for offset, i in enumerate(scored):
                drawn[i].append((y + offset, bars[i].scores[task]))
            places.append((y + (len(scored) - 1) / 2, task))
            y += len(scored) + 0.7
    figure, axes = _figure(9.5, 1.3 + _BAR * max(y, 2.0))
    for i, bar in enumerate(bars):
        where, scores = [at for at, _ in drawn[i]], [score for _, score in drawn[i]]
        shown = axes.barh(where, scores, height=0.9, color=_colour(bar.model, bar.paleness), label=bar.name)
        axes.bar_label(shown, fmt="%.1f", fontsize=7, padding=2)
    for at, kind in heads:
        axes.text(0, at, f" {kind}", weight="bold", fontsize=9, va="center")
    axes.set_yticks([at for at, _ in places], [task for _, task in places])
    axes.set_ylim(y - 0.3, -0.9)
    axes.set_xlim(0, 105)
    axes.set_xlabel("main score x 100")
    if bars:
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    _save(figure, path)


_LOOKS = {
    "better": ("tab:green", "significantly better"),
    "worse": ("tab:red", "significantly worse"),
    "not significant": ("tab:gray", "not significant"),
}


def plot_comparison(rows: Sequence[TaskComparison], names: tuple[str, str], path: Path) -> None:
    """Draw the difference per task with its 95% interval, as a PNG; tasks without an interval are hollow.

    Args:
        rows: from ``compare_results``.
        names: what the two sides are called.
        path: the file.
    """
    figure, axes = _figure(9, 1.9 + 0.3 * len(rows))
    labelled: set[str] = set()
    for i, row in enumerate(rows):
        colour, label = _LOOKS.get(row.verdict, ("tab:gray", "no interval"))
        style: dict[str, Any] = {"color": colour, "label": "" if label in labelled else label}
        labelled.add(label)
        if row.comparison is None:
            axes.plot(100 * (row.score_a - row.score_b), i, "o", mfc="none", **style)
            continue
        if row.comparison.known:
            axes.plot([100 * row.comparison.low, 100 * row.comparison.high], [i, i], color=colour, linewidth=2)
        axes.plot(100 * row.comparison.difference, i, "o", **style)
    axes.axvline(0, color="black", linewidth=0.8)
    low, high = axes.get_xlim()
    # Noise of a hundredth of a point must not fill the figure and look like a finding.
    axes.set_xlim(min(low, -1.0), max(high, 1.0))
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.set_yticks(range(len(rows)), [f"{row.task}  ({100 * (row.score_a - row.score_b):+.2f})" for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(f"{names[0]}  against  {names[1]}", loc="left", fontsize=10)
    axes.set_xlabel("difference of main scores x 100, 95% interval; to the right: the first is better")
    figure.legend(loc="outside lower left", ncols=4, frameon=False, fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with whole_file(path) as file:
        figure.savefig(file, dpi=130, format="png")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colour(model: int, paleness: float) -> tuple[float, ...]:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    base = to_rgb(colormaps["tab10"](model % 10))
    return tuple(1 - (1 - c) * (1 - 0.75 * paleness) for c in base)
