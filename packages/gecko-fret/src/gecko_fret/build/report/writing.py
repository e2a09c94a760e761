"""Writing the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import write_text
from gecko_fret.build.folder import Workspace
from gecko_fret.build.report.base import ReportData, Section
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
        write_text(path, render(sections, f"{path.name}.j2"))
    return paths


def render(sections: Sequence[Section], template: str) -> str:
    """The report by one of the templates beside this file: ``report.md.j2`` or ``report.html.j2``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gecko_fret.build.report"),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _markdown_cell
    return environment.get_template(template).render(sections=sections).rstrip("\n") + "\n"


def _markdown_cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
