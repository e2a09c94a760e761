"""Judges of (query, candidate) pairs: one file each, and one line in `JUDGES`."""

from __future__ import annotations

from gecko_fret.judges.base import Batch, Judge, JudgeSetup, Pair, PromptedPair
from gecko_fret.judges.ql import QueryLikelihood
from gecko_fret.judges.rc import RelevanceClassification
from gecko_fret.judges.similarity import Similarity

#: Judges by name. To add one, write its file and name its class here.
JUDGES: dict[str, type[Judge]] = {
    judge.name: judge
    for judge in (
        QueryLikelihood,
        RelevanceClassification,
        Similarity,
    )
}

__all__ = [
    "JUDGES",
    "Batch",
    "Judge",
    "JudgeSetup",
    "Pair",
    "PromptedPair",
    "QueryLikelihood",
    "RelevanceClassification",
    "Similarity",
]
