"""Relevance classification: which label the LLM gives to a query and a passage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gecko_fret.config import FretConfig, ScoreConfig
from gecko_fret.judges.base import Batch, Judge
from gecko_fret.judges.calibration import calibration_fingerprint, joint_label_logs, label_logs
from gecko_fret.llm.segments import softmax
from gecko_fret.models import Models


class RelevanceClassification(Judge):
    """Probabilities of the relevance labels, read from the logits of the label tokens alone (Zhuang et al. 2023).

    With ``score.calibrate`` each is divided by what an empty query gives for the passage, and all sum to 1 again.
    """

    name = "rc"
    uses_llm = True
    column = pa.list_(pa.float32())

    def judge(self, batch: Batch) -> Sequence[list[float]]:
        """Probabilities of the labels of every pair, in the order of the scale."""
        joint = batch.is_joint(self.name)
        if not batch.config.calibrate:
            return [list(scored.labels) for scored in (batch.joint.pairs if joint else self._separate(batch))]
        labels = batch.prompts.label_strings("separate")
        logs = (
            joint_label_logs(batch)
            if joint
            else label_logs(batch, batch.prompts.classification, labels, calibrate=True)
        )
        return [list(softmax(row)) for row in logs]

    def _separate(self, batch: Batch) -> Sequence[Any]:
        requests = [batch.prompts.classification(pair.passage, pair.query) for pair in batch.prompted]
        return batch.score(requests, batch.prompts.label_strings("separate"))

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """One, and one for the empty query."""
        return 1 + bool(config.calibrate)

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Whether it is calibrated, and with what."""
        return calibration_fingerprint(config)

    @classmethod
    def value(cls, judgement: Sequence[float]) -> float:
        """Expected value of the label, 0 to 4 with five labels."""
        return sum(label * probability for label, probability in enumerate(judgement))
