"""Results as a page: Markdown, HTML and a figure, the paper's rows beside the measured ones."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gecko_core.io import write_text
from gecko_eval.report.contamination import overlaps, training_sets
from gecko_eval.report.figures import Bar, plot_scores
from gecko_eval.report.paper import CATEGORIES, MIRACL, MTEB_ENG_V1, TASKS_ENG_V1, TASKS_ENG_V2

Row = list[str]


def write_report(all_results: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Writes ``report.md``, ``report.html`` and ``scores.png`` into ``out`` and returns their paths.

    Args:
        all_results: from ``load_results``, one per model.
    """
    out.mkdir(parents=True, exist_ok=True)
    figure = out / "scores.png"
    plot_scores(_groups(all_results), _bars(all_results), figure)
    sections = build_sections(all_results)
    paths = [out / "report.md", out / "report.html", figure]
    write_text(paths[0], _markdown(sections))
    write_text(paths[1], _html(sections))
    return paths


def build_sections(all_results: Sequence[dict[str, Any]]) -> list[tuple[str, list[str], Row, list[Row]]]:
    """The page's parts: (heading, paragraphs, table header, table rows)."""
    met = {r["folder"]: overlaps(r["model"]["record"], r["tasks"]) for r in all_results}
    return [
        _task_section(all_results, met),
        *_category_sections(all_results, met),
        _v2_section(all_results, met),
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
    changed = _on_different_data(all_results)
    for task in _task_names(all_results):
        first = next(r["tasks"][task] for r in all_results if "scores" in r["tasks"].get(task, {}))
        cells = []
        for _, results, dim in shown:
            score = results["tasks"].get(task, {}).get("scores", {}).get(dim)
            mark = " *" if score and task in met[results["folder"]] else ""
            cells.append(f"{100 * score['main']:.2f}{mark}" if score else "")
        rows.append([f"{task} †" if task in changed else task, first["type"], first["main_score"], *cells])
    notes = ["Scores are mteb's main scores, times 100. `*`: the model's record names training data of this task."]
    if changed:
        notes.append("†: its data changed between the runs; scores of different models do not compare.")
    return "Tasks", notes, ["task", "type", "metric", *(name for name, _, _ in shown)], rows


def _on_different_data(all_results: Sequence[dict[str, Any]]) -> set[str]:
    contents: dict[str, set[str]] = {}
    for results in all_results:
        for task, found in results["tasks"].items():
            if "scores" in found:
                contents.setdefault(task, set()).add(str(found.get("data")))
    return {task for task, found in contents.items() if len(found) > 1}


def _category_sections(all_results: Sequence[dict[str, Any]], met: dict[str, Any]) -> list[Any]:
    """One table per kind of training, so that no zero-shot row stands under an in-domain one."""
    rows: dict[str, list[Row]] = {"zero-shot": [], "in-domain": [], "not known here": []}
    for name, dims, training, scores in MTEB_ENG_V1:
        rows[training].append([name, str(dims), *(f"{s:.2f}" for s in scores), "paper"])
    for name, results, dim in columns(all_results):
        for training, tasks in _by_training(results, met[results["folder"]]).items():
            scored = {t: f for t, f in tasks.items() if dim in f.get("scores", {})}
            means, _ = _by_category(_main_scores(scored, dim), TASKS_ENG_V1)
            if any(means):
                rows[training].append([name, dim if dim != "0" else "", *means, "measured here"])
    header = ["model", "dims", *CATEGORIES, "avg", "source"]
    explained = (
        "Rows of the paper (Lee et al. 2024): MTEB(eng, v1), all 56 tasks. Measured rows are means over those of the "
        "56 that were run, written `mean (n of all)`; only a full category compares with the rows above it."
    )
    notes = {
        "zero-shot": [explained, "Measured: tasks that none of the data in the model's training record overlaps."],
        "in-domain": ["Measured: tasks that share data with a set in the model's training record."],
        "not known here": ["Measured: models without a training record. They may have seen any of the tasks."],
    }
    return [(f"Beside the paper: {training}", notes[training], header, found) for training, found in rows.items()]


def _by_training(results: dict[str, Any], met: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    tasks = results["tasks"]
    if not _has_record(results):
        return {"not known here": tasks}
    return {
        "zero-shot": {task: found for task, found in tasks.items() if task not in met},
        "in-domain": {task: found for task, found in tasks.items() if task in met},
    }


def _v2_section(all_results: Sequence[dict[str, Any]], met: dict[str, Any]) -> Any:
    """The leaderboard's own columns for MTEB(eng, v2); empty where none of its tasks was run."""
    every = {name for names in TASKS_ENG_V2.values() for name in names.split()}
    rows = []
    for name, results, dim in columns(all_results):
        scores = {
            task: 100 * found["scores"][dim]["main"]
            for task, found in results["tasks"].items()
            if task in every and dim in found.get("scores", {})
        }
        if scores:
            by_type, of_types = _by_category(scores, TASKS_ENG_V2)
            mean_types = f"{mean(of_types):.2f} ({len(of_types)} of {len(TASKS_ENG_V2)} types)"
            unseen = f"{_share_unseen(results, every):.0%}" if _has_record(results) else "not known"
            rows.append([name, by_type[-1], mean_types, *by_type[:-1], unseen])
    notes = [
        "Means over the tasks of the leaderboard's present English benchmark that were run, written `mean (n of all)`: "
        "only a row over all 41 compares with the leaderboard. Zero-shot: the share of the 41 tasks whose data no set "
        "in the model's training record overlaps."
    ]
    header = ["model", "Mean (Task)", "Mean (TaskType)", *TASKS_ENG_V2, "zero-shot"]
    return "MTEB(eng, v2)", notes if rows else [], header, rows


def _share_unseen(results: dict[str, Any], tasks: set[str]) -> float:
    return 1 - len(overlaps(results["model"]["record"], tasks)) / len(tasks)


def _has_record(results: dict[str, Any]) -> bool:
    record = results["model"]["record"]
    return bool(training_sets(record)) or record.get("trained") is False


def _by_category(scores: dict[str, float], tasks: dict[str, str]) -> tuple[Row, list[float]]:
    """One cell per category and one over all tasks, and the means of the categories that have scores."""
    cells, means, every = [], [], []
    for names in tasks.values():
        wanted = names.split()
        there = [scores[name] for name in wanted if name in scores]
        every += there
        means += [mean(there)] if there else []
        cells.append(f"{mean(there):.2f} ({len(there)} of {len(wanted)})" if there else "")
    total = sum(len(names.split()) for names in tasks.values())
    return [*cells, f"{mean(every):.2f} ({len(every)} of {total})" if every else ""], means


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
        if results["model"]["record"].get("trained") is False:
            notes.append(f"{label}: not trained on anything.")
        elif not training_sets(results["model"]["record"]):
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
        versions = ", ".join(f"{p} {made.get(p, '?')}" for p in ("mteb", "torch", "gecko-eval", "python"))
        about = results["model"]
        rows.append([about["label"], about["key"][:12], about.get("precision", ""), made.get("date", "?"), versions])
    return "How these were made", [], ["model", "weights and prompts", "computed in", "date", "versions"], rows


def _task_names(all_results: Sequence[dict[str, Any]]) -> list[str]:
    order = {kind: i for i, kind in enumerate(CATEGORIES.values())}
    found = {t: v["type"] for r in all_results for t, v in r["tasks"].items() if "scores" in v}
    return sorted(found, key=lambda t: (order.get(found[t], 99), t))


def _groups(all_results: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Task type -> its tasks, in the order of the page."""
    found: dict[str, list[str]] = {}
    for task in _task_names(all_results):
        kind = next(r["tasks"][task]["type"] for r in all_results if "scores" in r["tasks"].get(task, {}))
        found.setdefault(kind, []).append(task)
    return found


def _bars(all_results: Sequence[dict[str, Any]]) -> list[Bar]:
    bars = []
    for number, results in enumerate(all_results):
        mine = columns([results])
        for shade, (name, _, dim) in enumerate(mine):
            scores = {
                t: 100 * f["scores"][dim]["main"] for t, f in results["tasks"].items() if dim in f.get("scores", {})
            }
            bars.append(Bar(name, number, shade / max(1, len(mine)), scores))
    return bars


def _markdown(sections: Any) -> str:
    lines = ["# Evaluation", "", "![scores](scores.png)", ""]
    for heading, notes, header, rows in sections:
        if not rows and not notes:
            continue
        lines += [f"## {heading}", ""]
        if notes:
            lines += [f"- {note}" if not header else f"{note}  " for note in notes] + [""]
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
    parts += ["<meta name='viewport' content='width=device-width, initial-scale=1'>"]
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
