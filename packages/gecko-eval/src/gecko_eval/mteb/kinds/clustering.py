"""Clustering: texts with the group that each belongs to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_eval.data.files import find_file, holds
from gecko_eval.data.labelled import Column
from gecko_eval.mteb.kinds.base import new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind
from gecko_eval.mteb.public_content import PublicContent


class Clustering(LabelledKind):
    """``test.jsonl`` with text and label, without a train.jsonl; scored by the V-measure of k-means clusters."""

    name, unit = "Clustering", "draws"
    columns = (Column("sentences", "text", str), Column("labels", "label", (str, int)))

    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """See ``Kind``."""
        trained = holds(folder, "train.jsonl")
        return not trained and super().recognise(folder, fields)

    def check(self, splits: Mapping[str, Columns], folder: Path) -> None:
        """See ``LabelledKind``.

        Raises:
            DataError: one group only, or as many groups as texts.
        """
        super().check(splits, folder)
        labels = splits["test"]["labels"]
        if len(set(labels)) == len(labels):
            path = find_file(folder, "test.jsonl")
            raise DataError(
                f"{path}: each of the {len(labels)} texts has a label of its own; there are no groups to find"
            )

    def convert(self, splits: Mapping[str, Columns], public: PublicContent | None) -> None:
        """Number labels of which one is a number below 0: to mteb -1 is a text without a label, which is left out."""
        labels = splits["test"]["labels"]
        if public is None and any(isinstance(label, int) and label < 0 for label in labels):
            number = {label: place for place, label in enumerate(dict.fromkeys(labels))}
            splits["test"]["labels"] = [number[label] for label in labels]

    def scored_items(self, task: Any, scores: Any) -> dict[str, np.ndarray]:
        """See ``Kind``: the V-measures of mteb's draws, or given sets, of documents, the same for every model."""
        return _v_measures(scores) if task.metadata.main_score == "v_measure" else {}

    def make_task(self, name: str, splits: Mapping[str, Columns]) -> Any:
        """See ``LabelledKind``."""
        from mteb.abstasks.clustering import AbsTaskClustering

        return new_task(
            AbsTaskClustering,
            name,
            self.name,
            "v_measure",
            max_fraction_of_documents_to_embed=None,
            max_document_to_embed=4096,
            max_documents_per_cluster=4096,
        )


def _v_measures(scores: Any) -> dict[str, np.ndarray]:
    measures = {}
    for split, rows in scores.items():
        for row in rows:
            draws = row.get("v_measures") or []
            if isinstance(draws, dict):  # by level of a hierarchy; the score is the mean over all of them
                draws = [value for level in draws.values() for value in level]
            if len(draws) > 1:
                measures[f"{split}/{row['hf_subset']}"] = np.array(draws, dtype=np.float64)
    return measures
