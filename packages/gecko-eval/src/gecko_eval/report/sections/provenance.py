"""Where the numbers come from: training data that overlaps tasks, failures, versions."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_eval.report.contamination import training_sets
from gecko_eval.report.sections.base import Page, ReportSection


def contamination_sections(page: Page) -> Iterator[ReportSection]:
    """What each model's training record says about the tasks."""
    notes = []
    for results in page.results:
        label, met = results["model"]["label"], page.met[results["folder"]]
        if results["model"]["record"].get("trained") is False:
            notes.append(f"{label}: not trained on anything.")
        elif not training_sets(results["model"]["record"]):
            notes.append(f"{label}: its folder holds no training record; overlap with the tasks is unknown.")
        elif not met:
            notes.append(f"{label}: none of the data sets in its record overlaps a task above.")
        notes += [f"{label}: {task} is in-domain, trained on {', '.join(sets)}." for task, sets in sorted(met.items())]
    yield ReportSection("Training data that meets the tasks", notes)


def failure_sections(page: Page) -> Iterator[ReportSection]:
    """The tasks that failed, and why."""
    rows = [
        [results["model"]["label"], task, entry["error"]]
        for results in page.results
        for task, entry in sorted(results["tasks"].items())
        if "error" in entry
    ]
    yield ReportSection("Tasks that failed", [], ["model", "task", "why"], rows)


def origin_sections(page: Page) -> Iterator[ReportSection]:
    """Weights, precision, date and versions of every run."""
    rows = []
    for results in page.results:
        made, model = results["made"], results["model"]
        versions = ", ".join(f"{name} {made.get(name, '?')}" for name in ("mteb", "torch", "gecko-eval", "python"))
        rows.append([model["label"], model["key"][:12], model.get("precision", ""), made.get("date", "?"), versions])
    yield ReportSection(
        "How these were made", [], ["model", "weights and prompts", "computed in", "date", "versions"], rows
    )
