"""Padding-free batches: token ids of many texts laid end to end, positions counted from the start of each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gecko_core.compute import Group
from gecko_core.errors import DataError
from gecko_core.texts import checked_ids


class Packed(NamedTuple):
    """Texts end to end. input_ids, position_ids: (T,) int64. bounds: (B + 1,) int64. groups: runs of equal length."""

    input_ids: Tensor
    position_ids: Tensor
    bounds: Tensor
    groups: tuple[Group, ...]


def packed(
    rows: Sequence[Sequence[int]],
    vocabulary: int,
    device: torch.device | str = "cpu",
    padding_position: int | None = None,
) -> Packed:
    """Token ids of B texts -> one packed batch. Neighbours of equal length share a group: sort `rows` by length.

    padding_position: for the RoBERTa family, which counts positions from this number plus one and leaves padding
    tokens out. Raises `DataError` for no rows or an empty one, `ModelError` for an id outside of the vocabulary.
    """
    if not rows or any(len(row) == 0 for row in rows):
        raise DataError("a batch needs rows, and every row a token; give at least one row of token ids")
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    checked_ids(ids, vocabulary)
    starts = np.repeat(bounds[:-1], lengths)
    positions = np.arange(len(ids)) - starts
    if padding_position is not None:
        counted = np.concatenate([[0], np.cumsum(ids != padding_position)])
        positions = (counted[1:] - counted[starts]) * (ids != padding_position) + padding_position
    groups, first = [], 0
    for length, run in groupby(lengths.tolist()):
        count = len(list(run))
        groups.append(Group(first, count, length))
        first += count * length
    input_ids, position_ids, ends = (torch.from_numpy(array).to(device) for array in (ids, positions, bounds))
    return Packed(input_ids, position_ids, ends, tuple(groups))
