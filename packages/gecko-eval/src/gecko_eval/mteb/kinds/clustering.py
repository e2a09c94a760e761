"""Clustering: texts with the group that each belongs to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_eval.data.beir import find_file
from gecko_eval.data.labelled import Column
from gecko_eval.mteb.kinds.base import new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind


class Clustering(LabelledKind):
    """``test.jsonl`` with text and label, without a train.jsonl; scored by the V-measure of k-means clusters."""

    name, unit = "Clustering", "draws"
    columns = (Column("sentences", "text", str), Column("labels", "label", (str, int)))

    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """See ``Kind``."""
        trained = any((folder / name).is_file() for name in ("train.jsonl", "train.jsonl.gz"))
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
