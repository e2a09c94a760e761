"""Evaluation of embedding models: MTEB, judged sets of one's own, comparisons with confidence intervals."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Comparison", "RetrievalScores", "RetrievalSet", "evaluate_retrieval", "load_beir", "paired_bootstrap"]

_HOME = {
    "Comparison": "compare",
    "paired_bootstrap": "compare",
    "RetrievalScores": "retrieval",
    "RetrievalSet": "sets",
    "evaluate_retrieval": "retrieval",
    "load_beir": "beir",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `import gecko_eval` stays free of torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
