"""Semantic similarity: sentence pairs with human scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gecko_eval.data.sts import STS_COLUMNS
from gecko_eval.mteb.kinds.base import Items, new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind


class Sts(LabelledKind):
    """``test.jsonl`` with sentence1, sentence2 and score; scored by Spearman's correlation of cosine and score."""

    name, unit = "STS", "pairs"
    columns = STS_COLUMNS

    def make_task(self, name: str, splits: Mapping[str, Columns]) -> Any:
        """See ``LabelledKind``."""
        from mteb.abstasks.sts import AbsTaskSTS

        scores = splits["test"]["score"]
        low, high = math.floor(min(scores)), max(1, math.ceil(max(scores)))
        return new_task(AbsTaskSTS, name, self.name, "cosine_spearman", min_score=low, max_score=high)

    def items(self, task: Any, predicted: Any, data: Any) -> Items | None:
        """See ``Kind``."""
        if task.metadata.main_score != "cosine_spearman":
            return None
        return Items("spearman", np.array(predicted["cosine_scores"]), np.array(data["score"], dtype=np.float64))
