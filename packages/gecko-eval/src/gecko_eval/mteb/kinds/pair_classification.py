"""Pair classification: sentence pairs that belong together or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gecko_eval.data.labelled import Column
from gecko_eval.mteb.kinds.base import Items, new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind


class PairClassification(LabelledKind):
    """``test.jsonl`` with sentence1, sentence2 and label (1 or 0); scored by average precision of the cosines."""

    name, unit = "PairClassification", "pairs"
    columns = (
        Column("sentence1", "sentence1", str),
        Column("sentence2", "sentence2", str),
        Column("labels", "label", int, (0, 1), "pairs are 1 (belong together) or 0"),
    )

    def make_task(self, name: str, splits: Mapping[str, Columns]) -> Any:
        """See ``LabelledKind``."""
        from mteb.abstasks.pair_classification import AbsTaskPairClassification

        return new_task(AbsTaskPairClassification, name, self.name, "max_ap")

    def items(self, task: Any, predicted: Any, data: Any) -> Items | None:
        """See ``Kind``."""
        if task.metadata.main_score not in {"max_ap", "cosine_ap", "similarity_ap"}:
            return None
        labels = np.array(data[task.label_column_name], dtype=np.float64)
        return Items("ap", np.array(predicted["cosine_scores"]), labels)
