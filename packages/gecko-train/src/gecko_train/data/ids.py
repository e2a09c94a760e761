"""Ids of a whole set's texts: which ones queries and passages share."""

from __future__ import annotations

import numpy as np


def apart_by_label(
    query_ids: np.ndarray,  # (N,) int64, none below 0
    positive_ids: np.ndarray,  # (N,) int64, likewise
    labels: np.ndarray,  # (N,) int64, number of the row's label; -1: none
) -> np.ndarray:
    """The ids of positives, (N,), where a text all of whose rows have one label has another id than as a query."""
    _, places = np.unique(np.concatenate([query_ids, positive_ids]), return_inverse=True)
    lowest = np.full(places.max() + 1, len(labels), dtype=np.int64)
    highest = np.full(len(lowest), -1, dtype=np.int64)
    for side in np.split(places, 2):
        np.minimum.at(lowest, side, labels)
        np.maximum.at(highest, side, labels)
    of_one_label = ((lowest == highest) & (lowest >= 0))[places[len(labels) :]]
    return np.where(of_one_label, ~positive_ids, positive_ids)


def have_common(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two arrays of ids, (N,) int64, have a value in common.

    Sorting ten million ids takes seconds: what has no partner by its last bits is left out beforehand.
    """
    mask = (1 << min(26, (8 * len(first)).bit_length())) - 1
    for _ in range(2):
        there = np.zeros(mask + 1, dtype=bool)
        there[first & mask] = True
        first, second = second[there[second & mask]], first
    return bool(np.isin(first, second).any())
