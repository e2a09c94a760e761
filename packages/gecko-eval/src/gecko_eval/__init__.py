"""Evaluation of embedding models: MTEB, your own judged sets, comparisons with confidence intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_eval._core import lazy_exports

if TYPE_CHECKING:
    from gecko_eval.data.beir import load_beir
    from gecko_eval.data.sets import RetrievalSet
    from gecko_eval.in_training.retrieval import RetrievalScores, evaluate_retrieval
    from gecko_eval.report.compare import Comparison, compare_results, paired_bootstrap
    from gecko_eval.results import load_results

__version__ = "1.0.0"
__all__ = [
    "Comparison",
    "RetrievalScores",
    "RetrievalSet",
    "__version__",
    "compare_results",
    "evaluate_retrieval",
    "load_beir",
    "load_results",
    "paired_bootstrap",
]

# Imported on first use: `import gecko_eval` stays free of torch and mteb.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Comparison": "gecko_eval.report.compare",
        "RetrievalScores": "gecko_eval.in_training.retrieval",
        "RetrievalSet": "gecko_eval.data.sets",
        "compare_results": "gecko_eval.report.compare",
        "evaluate_retrieval": "gecko_eval.in_training.retrieval",
        "load_beir": "gecko_eval.data.beir",
        "load_results": "gecko_eval.results",
        "paired_bootstrap": "gecko_eval.report.compare",
    },
    __all__,
)
