"""The sections of the report, in their order: add one as a function in a new file and a line here."""

from __future__ import annotations

from gecko_eval.report.sections.base import MakeSections, Page, ReportSection
from gecko_eval.report.sections.leaderboard import leaderboard_sections
from gecko_eval.report.sections.miracl import miracl_sections
from gecko_eval.report.sections.paper import paper_sections
from gecko_eval.report.sections.provenance import contamination_sections, failure_sections, origin_sections
from gecko_eval.report.sections.tasks import task_groups, task_sections

__all__ = ["SECTIONS", "MakeSections", "Page", "ReportSection", "task_groups"]

SECTIONS: tuple[MakeSections, ...] = (
    task_sections,
    paper_sections,
    leaderboard_sections,
    miracl_sections,
    contamination_sections,
    failure_sections,
    origin_sections,
)
