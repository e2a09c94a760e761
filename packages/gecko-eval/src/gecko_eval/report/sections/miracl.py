"""MIRACL beside the rows of the paper."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_eval.report.published import MIRACL
from gecko_eval.report.sections.base import Page, ReportSection


def miracl_sections(page: Page) -> Iterator[ReportSection]:
    """The paper's rows and the measured ones; nothing where none was measured."""
    measured = []
    for shown in page.columns():
        for task, score in shown.scores().items():
            if task.startswith("MIRACLRetrieval"):
                splits = shown.results["tasks"][task]["scores"][shown.dim]["splits"]
                subsets = sum(len(split) for split in splits.values())
                measured.append([shown.name, f"{score:.1f}", f"{task}, {subsets} languages, measured here"])
    paper = [[name, f"{score:.1f}", "paper, 18 languages"] for name, score in MIRACL]
    yield ReportSection("MIRACL (nDCG@10)", [], ["model", "score", "source"], [*paper, *measured] if measured else [])
