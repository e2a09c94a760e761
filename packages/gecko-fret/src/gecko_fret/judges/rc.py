"""Relevance classification: which label the LLM gives to a query and a passage."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from gecko_fret.config import ScoreConfig
from gecko_fret.judges.base import Batch, Judge


class RelevanceClassification(Judge):
    """Probabilities of the relevance labels, read from the logits of the label tokens alone (Zhuang et al. 2023)."""

    name = "rc"
    uses_llm = True
    column = pa.list_(pa.float32())

    def judge(self, batch: Batch) -> Sequence[list[float]]:
        """Probabilities of the labels of every pair, in the order of the scale."""
        if batch.config.mode == "joint":
            return [list(scored.labels) for scored in batch.joint]
        requests = [batch.prompts.classification(pair.passage, pair.query) for pair in batch.prompted]
        return [list(scored.labels) for scored in batch.llm.score(requests, batch.prompts.label_strings("separate"))]

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """One; in joint mode the labels come from the pass of ``ql``."""
        return 0 if config.mode == "joint" else 1

    @classmethod
    def value(cls, judgement: Sequence[float]) -> float:
        """Expected value of the label, 0 to 4 with five labels."""
        return sum(label * probability for label, probability in enumerate(judgement))
