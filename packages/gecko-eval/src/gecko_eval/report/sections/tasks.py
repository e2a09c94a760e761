"""The table of all tasks and columns."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_eval.report.published import CATEGORIES
from gecko_eval.report.sections.base import Page, ReportSection, Results


def task_sections(page: Page) -> Iterator[ReportSection]:
    """One row per task, one column per model and dim."""
    columns = page.columns()
    changed = _on_different_data(page)
    rows = []
    for task in task_names(page):
        first = next(results["tasks"][task] for results in page.results if _has_scores(results, task))
        cells = []
        for shown in columns:
            score = shown.scores().get(task)
            mark = " *" if task in page.met[shown.results["folder"]] else ""
            cells.append("" if score is None else f"{score:.2f}{mark}")
        rows.append([f"{task} †" if task in changed else task, first["type"], first["main_score"], *cells])
    notes = ["Scores are mteb's main scores, times 100. `*`: the model's record names training data of this task."]
    if changed:
        notes.append("†: its data changed between the runs; scores of different models do not compare.")
    yield ReportSection("Tasks", notes, ["task", "type", "metric", *(shown.name for shown in columns)], rows)


def task_names(page: Page) -> list[str]:
    """Every task with a score, by category and name."""
    order = {kind: i for i, kind in enumerate(CATEGORIES.values())}
    kinds = {
        task: entry["type"] for results in page.results for task, entry in results["tasks"].items() if "scores" in entry
    }
    return sorted(kinds, key=lambda task: (order.get(kinds[task], 99), task))


def task_groups(page: Page) -> dict[str, list[str]]:
    """Task type -> its tasks, in the order of the page."""
    groups: dict[str, list[str]] = {}
    for task in task_names(page):
        kind = next(results["tasks"][task]["type"] for results in page.results if _has_scores(results, task))
        groups.setdefault(kind, []).append(task)
    return groups


def _has_scores(results: Results, task: str) -> bool:
    return "scores" in results["tasks"].get(task, {})


def _on_different_data(page: Page) -> set[str]:
    contents: dict[str, set[str]] = {}
    for results in page.results:
        for task, entry in results["tasks"].items():
            if "scores" in entry:
                contents.setdefault(task, set()).add(str(entry.get("data")))
    return {task for task, fingerprints in contents.items() if len(fingerprints) > 1}
