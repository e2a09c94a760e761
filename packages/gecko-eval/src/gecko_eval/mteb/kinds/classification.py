"""Classification: labelled texts to learn from and labelled texts to test on."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_eval.data.files import holds
from gecko_eval.data.labelled import Column
from gecko_eval.mteb.kinds.base import Items, new_task
from gecko_eval.mteb.kinds.labelled import Columns, LabelledKind
from gecko_eval.mteb.public_content import PublicContent


class Classification(LabelledKind):
    """``train.jsonl`` and ``test.jsonl`` with text and label; scored by the accuracy of classifiers on embeddings."""

    name, unit = "Classification", "texts"
    columns = (Column("text", "text", str), Column("label", "label", (str, int)))
    splits = ("train", "test")

    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """See ``Kind``."""
        trained = holds(folder, "train.jsonl")
        return trained and super().recognise(folder, fields)

    def check(self, splits: Mapping[str, Columns], folder: Path) -> None:
        """See ``LabelledKind``.

        Raises:
            DataError: one class only, or no class of the test set to learn from.
        """
        super().check(splits, folder)
        if not set(splits["train"]["label"]) & set(splits["test"]["label"]):
            raise DataError(f"{folder}: no label of test.jsonl stands in train.jsonl; are they of one set?")

    def notes(self, splits: Mapping[str, Columns]) -> tuple[str, ...]:
        """See ``LabelledKind``: test rows whose class nobody can have learned."""
        known, tested = set(splits["train"]["label"]), splits["test"]["label"]
        unknown = [label for label in tested if label not in known]
        if not unknown:
            return ()
        count = f"{len(unknown)} of {len(tested)} texts of test.jsonl have a label that train.jsonl has not"
        return (f"{count} (the first is {unknown[0]!r}); they count as wrong, whatever the model",)

    def convert(self, splits: Mapping[str, Columns], public: PublicContent | None) -> None:
        """Number the labels, as in mteb's own sets; its metrics for two classes ask for 0 and 1 in the test."""
        names = {label for columns in splits.values() for label in columns["label"]}
        tested = set(splits["test"]["label"])
        two = len(tested) == 2
        if not any(isinstance(name, str) for name in names) and (not two or 1 in tested):
            return
        order = sorted(names, key=lambda name: (two and name not in tested, str(name)))
        if public is not None and set(public.labels) == names:
            order = list(public.labels)
        number = {name: i for i, name in enumerate(order)}
        for columns in splits.values():
            columns["label"] = [number[label] for label in columns["label"]]

    def make_task(self, name: str, splits: Mapping[str, Columns]) -> Any:
        """See ``LabelledKind``."""
        from mteb.abstasks.classification import AbsTaskClassification

        return new_task(AbsTaskClassification, name, self.name, "accuracy")

    def prepare(self, task: Any) -> Any:
        """The task with columns that are plain lists.

        mteb reads the label of every training row one by one, ten times over, and ``datasets`` decodes a row for each
        access; on 16,000 rows that takes longer than encoding the test set. mteb samples, trains and scores as ever,
        on the same rows.
        """
        task.dataset = with_list_columns(task.dataset)
        return task

    def items(self, task: Any, predicted: Any, data: Any) -> Items | None:
        """See ``Kind``."""
        if task.metadata.main_score != "accuracy":
            return None
        truth = np.array(data[task.label_column_name])
        # Ten classifiers on ten draws of the training set: an item is how many of them got the text right.
        right = np.mean([np.asarray(run) == truth for run in predicted], axis=0)
        return Items("mean", right, right)


def with_list_columns(data: Any) -> Any:
    """The same data (a Dataset, or dicts of them at any depth) whose columns, asked for by name, are plain lists."""
    from datasets import Dataset

    if isinstance(data, dict):
        return type(data)({key: with_list_columns(value) for key, value in data.items()})
    if not isinstance(data, Dataset):
        return data
    listed = copy.copy(data)
    listed.__class__ = _list_columns()
    return listed


def _list_columns() -> type:
    from datasets import Dataset

    class ListColumns(Dataset):
        def __getitem__(self, key: Any) -> Any:
            value = super().__getitem__(key)
            return value[:] if isinstance(key, str) else value

    return ListColumns
