"""Comparisons of results folders, tables, figures and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_eval.report.compare import (
        FEWEST,
        Comparison,
        TaskComparison,
        compare_results,
        interval_stretch,
        paired_bootstrap,
        t_quantile,
        write_comparison,
    )
    from gecko_eval.report.contamination import overlaps, training_sets
    from gecko_eval.report.page import write_report

__all__ = [
    "FEWEST",
    "Comparison",
    "TaskComparison",
    "compare_results",
    "interval_stretch",
    "overlaps",
    "paired_bootstrap",
    "t_quantile",
    "training_sets",
    "write_comparison",
    "write_report",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "FEWEST": "gecko_eval.report.compare",
        "Comparison": "gecko_eval.report.compare",
        "TaskComparison": "gecko_eval.report.compare",
        "compare_results": "gecko_eval.report.compare",
        "interval_stretch": "gecko_eval.report.compare",
        "overlaps": "gecko_eval.report.contamination",
        "paired_bootstrap": "gecko_eval.report.compare",
        "t_quantile": "gecko_eval.report.compare",
        "training_sets": "gecko_eval.report.contamination",
        "write_comparison": "gecko_eval.report.compare",
        "write_report": "gecko_eval.report.page",
    },
)
