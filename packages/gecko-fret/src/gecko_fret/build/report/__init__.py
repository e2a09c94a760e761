"""The report of a build: sections of tables, written as Markdown and HTML."""

from __future__ import annotations

from gecko_fret.build.report.base import ReportData, ReportSection, as_text
from gecko_fret.build.report.sections import SECTIONS
from gecko_fret.build.report.writing import report_text, write_report

__all__ = ["SECTIONS", "ReportData", "ReportSection", "as_text", "report_text", "write_report"]
