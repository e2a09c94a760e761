"""MTEB(eng, v1) beside the rows of the paper, one table per kind of training."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from statistics import mean

from gecko_eval.report.published import CATEGORIES, MTEB_ENG_V1, TASKS_ENG_V1
from gecko_eval.report.sections.base import Page, ReportSection, Results, by_category, has_record

_EXPLAINED = (
    "Rows of the paper (Lee et al. 2024): MTEB(eng, v1), all 56 tasks. Measured rows are means over those of the "
    "56 that were run, written `mean (n of all)`; only a full category compares with the rows above it."
)
_NOTES = {
    "zero-shot": [_EXPLAINED, "Measured: tasks that none of the data in the model's training record overlaps."],
    "in-domain": ["Measured: tasks that share data with a set in the model's training record."],
    "not known here": ["Measured: models without a training record. They may have seen any of the tasks."],
}


def paper_sections(page: Page) -> Iterator[ReportSection]:
    """One table per kind of training, so that no zero-shot row stands under an in-domain one."""
    rows: dict[str, list[list[str]]] = {training: [] for training in _NOTES}
    for name, dims, training, scores in MTEB_ENG_V1:
        rows[training].append([name, str(dims), *(f"{score:.2f}" for score in scores), "paper"])
    for shown in page.columns():
        for training, tasks in _by_training(shown.results, page.met[shown.results["folder"]]).items():
            scored = {task: score for task, score in shown.scores().items() if task in tasks}
            cells, _ = by_category(merge_forums(scored), TASKS_ENG_V1)
            if any(cells):
                rows[training].append([shown.name, shown.dim if shown.dim != "0" else "", *cells, "measured here"])
    header = ["model", "dims", *CATEGORIES, "avg", "source"]
    for training, notes in _NOTES.items():
        yield ReportSection(f"Beside the paper: {training}", notes, header, rows[training])


def merge_forums(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores with CQADupstack as one task, once all its twelve forums are there."""
    forums = [score for task, score in scores.items() if task.startswith("CQADupstack")]
    return {**scores, "CQADupstackRetrieval": mean(forums)} if len(forums) == 12 else dict(scores)


def _by_training(results: Results, met: Collection[str]) -> dict[str, set[str]]:
    tasks = set(results["tasks"])
    if not has_record(results):
        return {"not known here": tasks}
    return {"zero-shot": tasks - set(met), "in-domain": tasks & set(met)}
