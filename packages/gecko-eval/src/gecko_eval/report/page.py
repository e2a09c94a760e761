"""Results as a report: Markdown, HTML and a figure, published rows beside the measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gecko_core.io import make_folder, render, write_text
from gecko_eval.report.figures import Bar, plot_scores
from gecko_eval.report.sections import SECTIONS, Page, ReportSection, task_groups
from gecko_eval.report.sections.base import columns_of


def write_report(all_results: Sequence[dict[str, Any]], out: Path) -> list[Path]:
    """Write ``report.md``, ``report.html`` and ``scores.png`` into ``out``.

    Args:
        all_results: from ``load_results``, one per model.
        out: a folder, made where it is missing.

    Returns:
        The paths of the three files.

    Raises:
        DataError: a file cannot be written.
    """
    page = Page(all_results)
    make_folder(out)
    figure = out / "scores.png"
    plot_scores(task_groups(page), _bars(all_results), figure)
    sections = build_sections(page)
    paths = []
    for name in ("report.md", "report.html"):
        text = render("gecko_eval.report", f"templates/{name}.j2", sections=sections)
        write_text(out / name, text.strip() + "\n")
        paths.append(out / name)
    return [*paths, figure]


def build_sections(page: Page) -> list[ReportSection]:
    """The sections of the page that have something to show."""
    sections = [section for make in SECTIONS for section in make(page)]
    return [section for section in sections if section.rows or section.notes]


def _bars(all_results: Sequence[dict[str, Any]]) -> list[Bar]:
    bars = []
    for number, results in enumerate(all_results):
        columns = columns_of(results)
        for shade, shown in enumerate(columns):
            bars.append(Bar(shown.name, number, shade / max(1, len(columns)), shown.scores()))
    return bars
