"""Results as a page: Markdown, HTML and a figure, the paper's rows beside the measured ones."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from .contamination import overlaps, training_sets
from .paper import CATEGORIES, MIRACL, MTEB_ENG_V1, TASKS_ENG_V1

Row = list[str]


def write_report(all_results: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Writes ``report.md``, ``report.html`` and ``scores.png`` into ``out`` and returns their paths.

    Args:
        all_results: from ``load_results``, one per model.
    """
    out.mkdir(parents=True, exist_ok=True)
    figure = out / "scores.png"
    plot_scores(all_results, figure)
    sections = build_sections(all_results)
    paths = [out / "report.md", out / "report.html", figure]
    paths[0].write_text(_markdown(sections), encoding="utf-8")
    paths[1].write_text(_html(sections), encoding="utf-8")
    return paths


def build_sections(all_results: Sequence[dict[str, Any]]) -> list[tuple[str, list[str], Row, list[Row]]]:
    """The page's parts: (heading, paragraphs, table header, table rows)."""
    met = {r["folder"]: overlaps(r["model"]["record"], r["tasks"]) for r in all_results}
    return [
        _task_section(all_results, met),
        _category_section(all_results, met),
        _miracl_section(all_results),
        _contamination_section(all_results, met),
        _failure_section(all_results),
        _origin_section(all_results),
    ]


def columns(all_results: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any], str]]:
    """(name, results, dim) of every column: each model at each of its dims, largest first."""
    found = []
    for results in all_results:
        dims = {dim for task in results["tasks"].values() for dim in task.get("scores", {})}
        for dim in sorted(dims, key=int, reverse=True):
            label = results["model"]["label"]
            found.append((label if dim == "0" else f"{label} @{dim}", results, dim))
    return found


def _task_section(all_results: Sequence[dict[str, Any]], met: dict[str, Any]) -> Any:
    shown = columns(all_results)
    rows = []
    for task in _task_names(all_results):
        first = next(r["tasks"][task] for r in all_results if "scores" in r["tasks"].get(task, {}))
        cells = []
        for _, results, dim in shown:
            score = results["tasks"].get(task, {}).get("scores", {}).get(dim)
            mark = " *" if score and task in met[results["folder"]] else ""
            cells.append(f"{100 * score['main']:.2f}{mark}" if score else "")
        rows.append([task, first["type"], first["main_score"], *cells])
    notes = ["Scores are mteb's main scores, times 100. `*`: the model's record names training data of this task."]
    return "Tasks", notes, ["task", "type", "metric", *(name for name, _, _ in shown)], rows


def _category_section(all_results: Sequence[dict[str, Any]], met: dict[str, Any]) -> Any:
    rows = [
        [name, str(dims), training, *(f"{s:.2f}" for s in scores), "paper"]
        for name, dims, training, scores in MTEB_ENG_V1
    ]
    for name, results, dim in columns(all_results):
        for training, wanted in (("zero-shot", False), ("in-domain", True)):
            tasks = {
                task: found
                for task, found in results["tasks"].items()
                if dim in found.get("scores", {}) and (task in met[results["folder"]]) is wanted
            }
            means = _category_means(_main_scores(tasks, dim))
            if any(means):
                rows.append([name, dim if dim != "0" else "", training, *means, "measured here"])
    notes = [
        "Rows of the paper: MTEB(eng, v1), all 56 tasks. Measured rows are means over those of the 56 that were run, "
        "written `mean (n of all)`; only a full category compares with the rows above. Zero-shot and in-domain tasks "
        "are kept apart; without a training record every task counts as zero-shot.",
    ]
    return "Beside the paper", notes, ["model", "dims", "training", *CATEGORIES, "avg", "source"], rows


def _category_means(scores: dict[str, float]) -> Row:
    cells, every = [], []
    for names in TASKS_ENG_V1.values():
        wanted = names.split()
        there = [scores[name] for name in wanted if name in scores]
        every += there
        cells.append(f"{mean(there):.2f} ({len(there)} of {len(wanted)})" if there else "")
    total = sum(len(names.split()) for names in TASKS_ENG_V1.values())
    return [*cells, f"{mean(every):.2f} ({len(every)} of {total})" if every else ""]


def _main_scores(tasks: dict[str, Any], dim: str) -> dict[str, float]:
    """Task -> score x 100; the twelve forums of CQADupstack count as one task, once all are there."""
    scores = {task: 100 * found["scores"][dim]["main"] for task, found in tasks.items()}
    forums = [score for task, score in scores.items() if task.startswith("CQADupstack")]
    return {**scores, "CQADupstackRetrieval": mean(forums)} if len(forums) == 12 else scores


def _miracl_section(all_results: Sequence[dict[str, Any]]) -> Any:
    rows = [[name, f"{score:.1f}", "paper, 18 languages"] for name, score in MIRACL]
    for name, results, dim in columns(all_results):
        for task, found in results["tasks"].items():
            if task.startswith("MIRACLRetrieval") and dim in found.get("scores", {}):
                subsets = sum(len(split) for split in found["scores"][dim]["splits"].values())
                rows.append(
                    [name, f"{100 * found['scores'][dim]['main']:.1f}", f"{task}, {subsets} languages, measured here"]
                )
    measured = len(rows) > len(MIRACL)
    return "MIRACL (nDCG@10)", [], ["model", "score", "source"], rows if measured else []


def _contamination_section(all_results: Sequence[dict[str, Any]], met: dict[str, Any]) -> Any:
    notes = []
    for results in all_results:
        label, found = results["model"]["label"], met[results["folder"]]
        if not training_sets(results["model"]["record"]):
            notes.append(f"{label}: its folder holds no training record; overlap with the tasks is unknown.")
        elif not found:
            notes.append(f"{label}: none of the data sets in its record overlaps a task above.")
        notes += [
            f"{label}: {task} is in-domain, trained on {', '.join(sets)}." for task, sets in sorted(found.items())
        ]
    return "Training data that meets the tasks", notes, [], []


def _failure_section(all_results: Sequence[dict[str, Any]]) -> Any:
    rows = [
        [results["model"]["label"], task, found["error"]]
        for results in all_results
        for task, found in sorted(results["tasks"].items())
        if "error" in found
    ]
    return "Tasks that failed", [], ["model", "task", "why"], rows


def _origin_section(all_results: Sequence[dict[str, Any]]) -> Any:
    rows = []
    for results in all_results:
        made = results["made"]
        versions = ", ".join(f"{p} {made[p]}" for p in ("mteb", "torch", "gecko-eval", "python"))
        rows.append([results["model"]["label"], results["model"]["key"][:12], made["date"], versions])
    return "How these were made", [], ["model", "weights and prompts", "date", "versions"], rows


def _task_names(all_results: Sequence[dict[str, Any]]) -> list[str]:
    order = {kind: i for i, kind in enumerate(CATEGORIES.values())}
    found = {t: v["type"] for r in all_results for t, v in r["tasks"].items() if "scores" in v}
    return sorted(found, key=lambda t: (order.get(found[t], 99), t))


def _markdown(sections: Any) -> str:
    lines = ["# Evaluation", "", "![scores](scores.png)", ""]
    for heading, notes, header, rows in sections:
        if not rows and not notes:
            continue
        lines += [f"## {heading}", ""]
        lines += [f"- {note}" if not header else note for note in notes] + [""]
        if rows:
            lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows] + [""]
    return "\n".join(lines)


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1f24;
  background: #fff }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; text-align: left; white-space: nowrap }
img { max-width: 100% }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117 }
  td, th { border-color: #30363d }
  img { background: #fff }
}
"""


def _html(sections: Any) -> str:
    parts = ["<!doctype html><html lang='en'><meta charset='utf-8'><title>Evaluation</title>"]
    parts += [f"<style>{_STYLE}</style><h1>Evaluation</h1><img src='scores.png' alt='scores per task'>"]
    for heading, notes, header, rows in sections:
        if not rows and not notes:
            continue
        parts.append(f"<h2>{html.escape(heading)}</h2>" + "".join(f"<p>{html.escape(n)}</p>" for n in notes))
        if rows:
            head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
            body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
            parts.append(f"<table><tr>{head}</tr>{body}</table>")
    return "\n".join(parts) + "\n"


def plot_scores(all_results: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars per task, one colour per model and dim, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks, shown = _task_names(all_results), columns(all_results)
    # The figure is drawn without pyplot: no global state, no display.
    figure = Figure(figsize=(9, 1.2 + 0.22 * max(1, len(tasks)) * max(1, len(shown))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / max(1, len(shown))
    for i, (name, results, dim) in enumerate(shown):
        scores = [results["tasks"].get(t, {}).get("scores", {}).get(dim, {}).get("main") for t in tasks]
        places = [place + i * height for place, s in enumerate(scores) if s is not None]
        bars = axes.barh(places, [100 * s for s in scores if s is not None], height=height, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(tasks))], tasks)
    axes.invert_yaxis()
    axes.set_xlabel("main score x 100")
    axes.set_xlim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)


def plot_comparison(rows: Sequence[tuple[str, Any, float, float]], names: tuple[str, str], path: Path) -> None:
    """Difference per task with its 95% interval, as a PNG; tasks without an interval are hollow."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (_, found, a, b) in enumerate(rows):
        if found is None:
            axes.plot(100 * (a - b), i, "o", mfc="none", color="tab:gray")
            continue
        colour = "tab:gray" if not found.significant else "tab:green" if found.difference > 0 else "tab:red"
        axes.plot([100 * found.low, 100 * found.high], [i, i], color=colour)
        axes.plot(100 * found.difference, i, "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(y=0.3)
    axes.set_yticks(range(len(rows)), [task for task, *_ in rows])
    axes.invert_yaxis()
    axes.set_xlabel(f"points {names[0]} is above {names[1]}, 95% interval")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
