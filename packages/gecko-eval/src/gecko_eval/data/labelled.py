"""Pairs, labelled texts and groups of texts from a folder's JSON lines, as mteb's tasks of these kinds."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import DataError
from gecko_core.io import read_table
from gecko_eval.data.beir import find_file

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

# mteb's numbers of these labels: its average precision takes 1 as the positive class.
_LABELS = {"AmazonCounterfactualClassification": ("not-counterfactual", "counterfactual")}

# What mteb calls these splits.
_SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}


def labelled_task(folder: Path, name: str, kind: str, mteb_name: str | None, subset: str) -> AbsTask:
    """mteb's task of ``kind`` on the folder's test.jsonl (and train.jsonl for classification).

    Raises:
        DataError: a missing file, a row that is not of this kind (the line names it), or data without any contrast: one
            label only, all scores alike.
    """
    from datasets import Dataset, DatasetDict

    columns = {}
    for split, mteb_split in _SPLIT_NAMES.items():
        if split == "test" or (kind == "Classification" and split == "train"):
            path = find_file(folder, f"{split}.jsonl")
            columns[mteb_split] = _columns(path, kind)
            if split == "train" or kind != "Classification":
                _check_contrast(columns[mteb_split], path, kind)
    if kind == "Classification":
        if not set(columns["train"]["label"]) & set(columns["test"]["label"]):
            raise DataError(f"{folder}: no label of test.jsonl stands in train.jsonl; are they of one set?")
        _number_labels(columns, _LABELS.get(mteb_name or "", ()))
    splits = {split: Dataset.from_dict(content) for split, content in columns.items()}
    if mteb_name:
        task = existing_task(mteb_name, subset)
    elif kind == "STS":
        from mteb.abstasks.sts import AbsTaskSTS

        scores = splits["test"]["score"]
        low, high = math.floor(min(scores)), max(1, math.ceil(max(scores)))
        task = new_task(AbsTaskSTS, name, kind, "cosine_spearman", min_score=low, max_score=high)
    elif kind == "PairClassification":
        from mteb.abstasks.pair_classification import AbsTaskPairClassification

        task = new_task(AbsTaskPairClassification, name, kind, "max_ap")
    elif kind == "Classification":
        from mteb.abstasks.classification import AbsTaskClassification

        task = new_task(AbsTaskClassification, name, kind, "accuracy")
    else:
        from mteb.abstasks.clustering import AbsTaskClustering

        task = new_task(
            AbsTaskClustering,
            name,
            kind,
            "v_measure",
            max_fraction_of_documents_to_embed=None,
            max_document_to_embed=4096,
            max_documents_per_cluster=4096,
        )
    data = DatasetDict(splits)
    task.dataset = data if subset == "default" else {subset: data}
    task.data_loaded = True
    return task


def _number_labels(splits: dict[str, dict[str, list[Any]]], order: tuple[str, ...]) -> None:
    """Label names become numbers, as in mteb's own sets; its metrics for two classes ask for 0 and 1."""
    names = {label for columns in splits.values() for label in columns["label"]}
    if any(isinstance(name, str) for name in names):
        number = {name: i for i, name in enumerate(order if set(order) == names else sorted(names, key=str))}
        for columns in splits.values():
            columns["label"] = [number[label] for label in columns["label"]]


_COLUMNS: dict[str, dict[str, tuple[str, type | tuple[type, ...]]]] = {
    "STS": {"sentence1": ("sentence1", str), "sentence2": ("sentence2", str), "score": ("score", (int, float))},
    "PairClassification": {"sentence1": ("sentence1", str), "sentence2": ("sentence2", str), "labels": ("label", int)},
    "Classification": {"text": ("text", str), "label": ("label", (str, int))},
    "Clustering": {"sentences": ("text", str), "labels": ("label", (str, int))},
}


def _columns(path: Path, kind: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {column: [] for column in _COLUMNS[kind]}
    kinds_of_label: dict[type, str] = {}
    for _, where, row in read_table(path):
        for column, (key, wanted) in _COLUMNS[kind].items():
            value = row.get(key)
            if not isinstance(value, wanted) or isinstance(value, bool):
                fault = "missing" if key not in row else "empty or NaN" if value is None else "of the wrong type"
                raise DataError(f"{where}: the key {key!r} is {fault}")
            if isinstance(value, float) and not math.isfinite(value):
                raise DataError(f"{where}: the {key} is infinite; give a number")
            if kind == "PairClassification" and key == "label" and value not in (0, 1):
                raise DataError(f"{where}: the label is {value}; pairs are 1 (belong together) or 0")
            if key == "label":
                kinds_of_label.setdefault(type(value), where)
            columns[column].append(value)
    if not next(iter(columns.values())):
        raise DataError(f"{path}: no rows in it")
    if len(kinds_of_label) > 1:
        first, second = list(kinds_of_label.values())[:2]
        raise DataError(f"{second}: the label is of another type than in {first}; write all as text or all as numbers")
    return columns


def _check_contrast(columns: dict[str, list[Any]], path: Path, kind: str) -> None:
    """Data in which all rows are alike says nothing about a model, and the metrics are not defined on it."""
    values = next(columns[column] for column in ("score", "labels", "label") if column in columns)
    name = "score" if kind == "STS" else "label"
    different = len(Counter(values))
    if different < 2:
        raise DataError(f"{path}: all {len(values)} rows have the {name} {values[0]!r}; at least two are needed")
    if kind == "Clustering" and different == len(values):
        raise DataError(f"{path}: each of the {len(values)} texts has a label of its own; there are no groups to find")


def existing_task(mteb_name: str, subset: str = "default") -> Any:
    """mteb's own task of that name, restricted to its test split and one subset."""
    import mteb

    if subset == "default":
        return mteb.get_task(mteb_name, eval_splits=["test"])
    return mteb.get_task(mteb_name, eval_splits=["test"], hf_subsets=[subset])


def new_task(base: type, name: str, kind: str, main_score: str, **attributes: Any) -> Any:
    """A task of mteb's class ``base`` that mteb has no name for."""
    from mteb.abstasks.task_metadata import TaskMetadata

    metadata = TaskMetadata(
        name=name,
        dataset={"path": f"local/{name}", "revision": hashlib.sha256(name.encode()).hexdigest()[:40]},
        description=f"The folder {name}, evaluated as {kind}.",
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )
    return type("LocalTask", (base,), {"metadata": metadata, **attributes})()
