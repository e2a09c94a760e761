"""Writing the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gecko_core.io import render, write_text
from gecko_fret.build.folder import Workspace, no_fret_folder
from gecko_fret.build.report.apart import distinct_real
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.sections import SECTIONS
from gecko_fret.config import EmbedderConfig
from gecko_fret.models import load_embedder
from gecko_fret.query_files import read_queries
from gecko_fret.steps.first_pass import first_pass_folder

_NAMES = ("report.md", "report.html")


def write_report(
    out: str | Path,
    *,
    real: str | Path | None = None,
    embed: bool = False,
    embedder: Any = None,
    device: str | None = None,
) -> tuple[Path, Path]:
    """Write report.md and report.html into a FRet folder.

    Both depend on the data alone: the same folder and the same real queries give the same bytes.

    Args:
        out: the FRet folder.
        real: file of real queries that the written ones are compared with, see
            :func:`gecko_fret.query_files.read_queries`; they are encoded for that.
        embed: encode queries by the build's embedder, for how near they are to each other.
        embedder: a ready-made embedder instead of the build's.
        device: where the build's embedder runs; None: where the build says.

    Returns:
        Their paths.

    Raises:
        DataError: ``out`` is no FRet folder, or it cannot be written; or there are too few real or written queries.
        ConfigError: scikit-learn is not installed, which ``real`` needs.
        ModelError: the embedder cannot be loaded.
    """
    workspace = Workspace(out)
    manifest = workspace.read_manifest()
    if manifest is None:
        raise no_fret_folder(out)
    queries = None if real is None else distinct_real([query.text for query in read_queries(real)], str(real))
    if embedder is None and (embed or queries is not None):
        embedder = _embedder(workspace, manifest, device)
    data = ReportData(workspace, manifest, queries, "real queries" if real is None else str(real), embedder)
    sections = [section for make in SECTIONS for section in make(data)]
    paths = workspace.out / _NAMES[0], workspace.out / _NAMES[1]
    for path in paths:
        write_text(path, report_text(sections, path.name))
    return paths


def _embedder(workspace: Workspace, manifest: dict[str, Any], device: str | None) -> Any:
    """The embedder that the build retrieved with: the one trained for it where there is one."""
    settings = manifest["config"]
    config = EmbedderConfig.model_validate(settings["embedder"])
    changes = {"device": device} if device else {}
    if settings["retrieve"].get("first_pass"):
        changes["model"] = str(first_pass_folder(workspace.out))
    return load_embedder(config.model_copy(update=changes))


def report_text(sections: Sequence[ReportSection], name: str, title: str = "FRet report") -> str:
    """The report as ``report.md`` or ``report.html``, by the template of that name."""
    text = render("gecko_fret.build.report", f"templates/{name}.j2", sections=sections, title=title)
    return text.rstrip("\n") + "\n"
