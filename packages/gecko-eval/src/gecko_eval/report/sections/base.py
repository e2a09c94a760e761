"""What a section of the report is, and the view of the results that it is made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean
from typing import Any, NamedTuple

from gecko_eval.report.contamination import overlaps, training_sets

Results = dict[str, Any]


class ReportSection(NamedTuple):
    """A heading, paragraphs and a table; left out of the report where it has neither notes nor rows."""

    heading: str
    notes: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


class Shown(NamedTuple):
    """A column of the report: a model at one of its dims ("0" for a model without dims)."""

    name: str
    results: Results
    dim: str

    def scores(self) -> dict[str, float]:
        """Task -> main score x 100 of every task scored at this dim."""
        tasks = self.results["tasks"]
        return {
            task: 100 * entry["scores"][self.dim]["main"]
            for task, entry in tasks.items()
            if self.dim in entry.get("scores", {})
        }


@dataclass(frozen=True)
class Page:
    """All results of a report.

    Attributes:
        results: from ``load_results``, one per model.
    """

    results: Sequence[Results]

    @cached_property
    def met(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """Results folder -> task -> the training sets that overlap the task."""
        return {results["folder"]: overlaps(results["model"]["record"], results["tasks"]) for results in self.results}

    def columns(self) -> list[Shown]:
        """Each model at each of its dims, largest first."""
        return [shown for results in self.results for shown in columns_of(results)]


def columns_of(results: Results) -> list[Shown]:
    """A model at each of its dims, largest first."""
    label = results["model"]["label"]
    dims = {dim for task in results["tasks"].values() for dim in task.get("scores", {})}
    ordered = sorted(dims, key=int, reverse=True)
    return [Shown(label if dim == "0" else f"{label} @{dim}", results, dim) for dim in ordered]


#: Makes any number of sections of a page.
MakeSections = Callable[[Page], Iterable[ReportSection]]


def has_record(results: Results) -> bool:
    """Whether the model says what it was trained on."""
    record = results["model"]["record"]
    return bool(training_sets(record)) or record.get("trained") is False


def by_category(scores: Mapping[str, float], tasks: Mapping[str, str]) -> tuple[list[str], list[float]]:
    """One cell per category and one over all tasks, and the means of the categories that have scores.

    Args:
        scores: task -> score.
        tasks: category -> its tasks, separated by blanks.
    """
    cells, means, every = [], [], []
    for names in tasks.values():
        wanted = names.split()
        scored = [scores[name] for name in wanted if name in scores]
        every += scored
        means += [mean(scored)] if scored else []
        cells.append(f"{mean(scored):.2f} ({len(scored)} of {len(wanted)})" if scored else "")
    total = sum(len(names.split()) for names in tasks.values())
    return [*cells, f"{mean(every):.2f} ({len(every)} of {total})" if every else ""], means
