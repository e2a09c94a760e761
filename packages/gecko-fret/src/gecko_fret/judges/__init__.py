"""Judges of (query, candidate) pairs: one file each, and one line in `JUDGES`."""

from __future__ import annotations

from collections.abc import Iterable

from gecko_fret.judges.base import Batch, Judge, JudgeSetup, Pair, PromptedPair
from gecko_fret.judges.bm25 import Bm25
from gecko_fret.judges.cross_encoder import CrossEncoderJudge
from gecko_fret.judges.embedder import OtherEmbedder
from gecko_fret.judges.listwise import Listwise
from gecko_fret.judges.ql import QueryLikelihood
from gecko_fret.judges.rc import RelevanceClassification
from gecko_fret.judges.similarity import Similarity
from gecko_fret.judges.yes_no import YesNo

#: Judges by name. To add one, write its file and name its class here.
JUDGES: dict[str, type[Judge]] = {
    judge.name: judge
    for judge in (
        QueryLikelihood,
        RelevanceClassification,
        Similarity,
        YesNo,
        CrossEncoderJudge,
        OtherEmbedder,
        Bm25,
        Listwise,
    )
}


def ask_llm(judges: Iterable[str]) -> bool:
    """Whether any of these judges asks the LLM; names that are none do not count."""
    return any(JUDGES[name].uses_llm for name in judges if name in JUDGES)


__all__ = [
    "JUDGES",
    "Batch",
    "Bm25",
    "CrossEncoderJudge",
    "Judge",
    "JudgeSetup",
    "Listwise",
    "OtherEmbedder",
    "Pair",
    "PromptedPair",
    "QueryLikelihood",
    "RelevanceClassification",
    "Similarity",
    "YesNo",
    "ask_llm",
]
