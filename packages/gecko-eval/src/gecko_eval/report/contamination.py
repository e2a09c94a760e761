"""Which evaluation tasks share data with a model's training, as far as its own record tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

# Training set (letters and digits only) -> stems of the tasks that share its data.
_SHARED = {
    "nq": ("nq",),
    "nqopen": ("nq",),
    "naturalquestions": ("nq",),
    "hotpotqa": ("hotpotqa",),
    "fever": ("fever", "climatefever"),
    "climatefever": ("climatefever",),
    "msmarco": ("msmarco",),
    "miracl": ("miracl",),
    "mrtydi": ("miracl", "mrtidy", "mrtydi"),
    "tydiqa": ("miracl", "mrtidy", "mrtydi"),
    "stackexchange": ("stackexchange", "cqadupstack", "askubuntu", "stackoverflow"),
    "quora": ("quora",),
    "snli": ("snli",),
    "mnli": ("mnli",),
    "xnli": ("xnli",),
    "stsb": ("stsbenchmark", "sts12", "sts13", "sts14", "sts15", "sts16", "sts17"),
    "tweetsentiment": ("tweetsentiment",),
}
# Entries of a record that list training data, whatever their place in it.
_LISTS = {
    "sources",
    "datasets",
    "data_sets",
    "training_sets",
    "training_datasets",
    "mixture",
    "sets",
    "corpus",
    "corpora",
}
# What names the data in an entry that says more than a name.
_NAMES = ("name", "path", "source", "dataset")


def training_sets(record: dict[str, Any]) -> list[str]:
    """Names of training data in a model's record: what stands under ``sources``, ``datasets``, ``sets``, ``corpus``...

    Such an entry is a name, a list of names or of objects with a ``name`` or ``path``, or an object whose keys are the
    names (as gecko-train writes: ``stages.finetune.sets.hotpotqa: 1200``).
    """
    return sorted(set(_find(record)))


def _find(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).lower() in _LISTS:
                yield from _listed(inner)
            else:
                yield from _find(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _find(inner)


def _listed(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _listed(inner)
    elif isinstance(value, dict):
        named = [value[key] for key in _NAMES if isinstance(value.get(key), str)]
        yield from named
        if not named:
            for key, inner in value.items():
                yield str(key)
                yield from _listed(inner) if isinstance(inner, (dict, list, tuple)) else ()


def overlaps(record: dict[str, Any], tasks: Iterable[str]) -> dict[str, list[str]]:
    """For every task that a training set overlaps: the task -> those training sets."""
    sets = {name: _stem(name) for name in training_sets(record)}
    overlapped = {}
    for task in tasks:
        stem = _stem(task)
        hits = [name for name, training in sets.items() if training and _meets(training, stem)]
        if hits:
            overlapped[task] = hits
    return overlapped


def _meets(training: str, task: str) -> bool:
    # A four-letter stem at least: "sts" or "nq" would otherwise meet half of all names.
    if len(training) >= 4 and (task.startswith(training) or (len(task) >= 4 and training.startswith(task))):
        return True
    shared = next((stems for name, stems in _SHARED.items() if training == name), ())
    return any(task.startswith(stem) for stem in shared)


def _stem(name: str) -> str:
    name = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"\.(jsonl|csv|parquet)(\.gz)?$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]", "", name.lower())
