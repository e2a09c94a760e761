"""Which evaluation tasks a model has met in training, as far as its own record tells."""

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
_KEYS = re.compile(r"source|dataset|data_set|training_set|mixture|rows|fret", re.IGNORECASE)


def training_sets(record: dict[str, Any]) -> list[str]:
    """Names of training sets in a model's record: strings and keys under entries such as ``sources``, ``datasets``."""
    return sorted(set(_names(record, False)))


def _names(value: Any, inside: bool) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            below = inside or bool(_KEYS.search(str(key)))
            if inside and not isinstance(inner, (str, bool)):
                yield str(key)
            yield from _names(inner, below)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _names(inner, inside)
    elif isinstance(value, str) and inside:
        yield value


def overlaps(record: dict[str, Any], tasks: Iterable[str]) -> dict[str, list[str]]:
    """task -> the training sets that overlap it, for the tasks where there are some."""
    sets = {name: _stem(name) for name in training_sets(record)}
    found = {}
    for task in tasks:
        stem = _stem(task)
        hits = [name for name, training in sets.items() if training and _meets(training, stem)]
        if hits:
            found[task] = hits
    return found


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
