"""MTEB(eng, v2), with the leaderboard's own columns."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean

from gecko_eval.report.contamination import overlaps
from gecko_eval.report.published import TASKS_ENG_V2
from gecko_eval.report.sections.base import Page, ReportSection, Results, by_category, has_record

_NOTE = (
    "Means over the tasks of the leaderboard's present English benchmark that were run, written `mean (n of all)`: "
    "only a row over all 41 compares with the leaderboard. Zero-shot: the share of the 41 tasks whose data no set "
    "in the model's training record overlaps."
)


def leaderboard_sections(page: Page) -> Iterator[ReportSection]:
    """One row per column that has a score of the benchmark; nothing where none was run."""
    every = {name for names in TASKS_ENG_V2.values() for name in names.split()}
    rows = []
    for shown in page.columns():
        scores = {task: score for task, score in shown.scores().items() if task in every}
        if scores:
            cells, means = by_category(scores, TASKS_ENG_V2)
            mean_types = f"{mean(means):.2f} ({len(means)} of {len(TASKS_ENG_V2)} types)"
            unseen = f"{_share_unseen(shown.results, every):.0%}" if has_record(shown.results) else "not known"
            rows.append([shown.name, cells[-1], mean_types, *cells[:-1], unseen])
    header = ["model", "Mean (Task)", "Mean (TaskType)", *TASKS_ENG_V2, "zero-shot"]
    yield ReportSection("MTEB(eng, v2)", [_NOTE] if rows else [], header, rows)


def _share_unseen(results: Results, tasks: set[str]) -> float:
    return 1 - len(overlaps(results["model"]["record"], tasks)) / len(tasks)
