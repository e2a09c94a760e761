"""Writing the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import render, write_text
from gecko_fret.build.folder import Workspace
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.sections import SECTIONS

_NAMES = ("report.md", "report.html")


def write_report(out: str | Path) -> tuple[Path, Path]:
    """Write report.md and report.html into a FRet folder.

    Both depend on the data alone: the same folder gives the same bytes.

    Args:
        out: the FRet folder.

    Returns:
        Their paths.

    Raises:
        DataError: ``out`` is no FRet folder, or it cannot be written.
    """
    workspace = Workspace(out)
    manifest = workspace.read_manifest()
    if manifest is None:
        raise DataError(f"{out}: not a FRet folder (no manifest.json); make one with: gecko-fret build --out {out}")
    data = ReportData(workspace, manifest)
    sections = [section for make in SECTIONS for section in make(data)]
    paths = workspace.out / _NAMES[0], workspace.out / _NAMES[1]
    for path in paths:
        write_text(path, report_text(sections, path.name))
    return paths


def report_text(sections: Sequence[ReportSection], name: str, title: str = "FRet report") -> str:
    """The report as ``report.md`` or ``report.html``, by the template of that name."""
    text = render("gecko_fret.build.report", f"templates/{name}.j2", sections=sections, title=title)
    return text.rstrip("\n") + "\n"
