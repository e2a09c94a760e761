"""Running the steps over parts on disk: pipeline, folder, fingerprints, cost, engines, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_fret.build.cost import describe_cost
    from gecko_fret.build.folder import Workspace
    from gecko_fret.build.inputs import input_files
    from gecko_fret.build.pipeline import build_fret, read_corpus
    from gecko_fret.build.report import write_report
    from gecko_fret.build.run import Build, Engine
    from gecko_fret.build.summary import FretSummary

__all__ = [
    "Build",
    "Engine",
    "FretSummary",
    "Workspace",
    "build_fret",
    "describe_cost",
    "input_files",
    "read_corpus",
    "write_report",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Build": "gecko_fret.build.run",
        "Engine": "gecko_fret.build.run",
        "FretSummary": "gecko_fret.build.summary",
        "Workspace": "gecko_fret.build.folder",
        "build_fret": "gecko_fret.build.pipeline",
        "describe_cost": "gecko_fret.build.cost",
        "input_files": "gecko_fret.build.inputs",
        "read_corpus": "gecko_fret.build.pipeline",
        "write_report": "gecko_fret.build.report",
    },
)
