"""Evaluation inside a training loop: small sets, all dims from one encoding, no mteb."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_eval.in_training.loop import LoopEvaluation, best_step, subsample
    from gecko_eval.in_training.retrieval import RetrievalScores, check_dims, evaluate_retrieval
    from gecko_eval.in_training.sts import evaluate_sts

__all__ = [
    "LoopEvaluation",
    "RetrievalScores",
    "best_step",
    "check_dims",
    "evaluate_retrieval",
    "evaluate_sts",
    "subsample",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LoopEvaluation": "gecko_eval.in_training.loop",
        "RetrievalScores": "gecko_eval.in_training.retrieval",
        "best_step": "gecko_eval.in_training.loop",
        "check_dims": "gecko_eval.in_training.retrieval",
        "evaluate_retrieval": "gecko_eval.in_training.retrieval",
        "evaluate_sts": "gecko_eval.in_training.sts",
        "subsample": "gecko_eval.in_training.loop",
    },
)
