"""Pair classification: sentence pairs that belong together or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gecko_eval.data.labelled import Column
from gecko_eval.metrics import average_precision
from gecko_eval.mteb.kinds.base import Items, new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind

#: mteb's main score -> the predictions of which it is the average precision, or the highest one.
_PREDICTED = {
    "cosine_ap": ("cosine_scores",),
    "similarity_ap": ("similarity_scores",),
    "max_ap": ("cosine_scores", "similarity_scores", "manhattan_distances", "euclidean_distances", "dot_scores"),
}


class PairClassification(LabelledKind):
    """``test.jsonl`` with sentence1, sentence2 and label (1 or 0); scored as mteb does.

    The score is the highest average precision that one of mteb's similarities reaches (``max_ap``).
    """

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
        names = _PREDICTED.get(task.metadata.main_score)
        if names is None:
            return None
        labels = np.array(data[task.label_column_name], dtype=np.float64)
        # A distance is the less the more alike; the first of several that are as good as each other is taken.
        scores = [np.array(predicted[name]) * (-1 if name.endswith("distances") else 1) for name in names]
        return Items("ap", max(scores, key=lambda values: average_precision(values, labels)), labels)
