"""Padding-free batches: token ids of many texts laid end to end, positions counted from the start of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gecko_core.encode.cpu import Tile
from gecko_core.encode.texts import checked_ids
from gecko_core.errors import DataError


class Packed(NamedTuple):
    """Texts end to end.

    Attributes:
        input_ids: (T,) int64.
        position_ids: (T,) int64, counted from the start of each text.
        bounds: where each text begins and the last one ends, (B + 1,) int64.
        tiles: for attention.
    """

    input_ids: Tensor
    position_ids: Tensor
    bounds: Tensor
    tiles: tuple[Tile, ...]


def packed(
    rows: Sequence[Sequence[int]],
    vocabulary: int,
    device: torch.device | str = "cpu",
    padding_position: int | None = None,
    few_shapes: bool = False,
) -> Packed:
    """Lay texts end to end.

    Args:
        rows: token ids of B texts. Sort them by length: neighbours of nearly equal length share a tile.
        vocabulary: number of embeddings of the backbone.
        device: where the tensors go.
        padding_position: for the RoBERTa family, which counts positions from this number plus one and leaves padding
            tokens out.
        few_shapes: tokens of id 0 that belong to no text fill the batch up to one of eight sizes between a power of two
            and the next. oneDNN keeps code for every shape it has met, about a megabyte each: without a limit to their
            number a long run's memory grows.
            For the same reason tiles come in few sizes.

    Returns:
        One packed batch.

    Raises:
        DataError: no rows, or an empty one.
        ModelError: a token id outside the vocabulary.
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
    filler = np.zeros(_few_sizes(len(ids), 8) - len(ids) if few_shapes else 0, dtype=np.int64)
    ids, positions = np.concatenate([ids, filler]), np.concatenate([positions, filler])
    input_ids, position_ids, ends = (torch.from_numpy(array).to(device) for array in (ids, positions, bounds))
    return Packed(input_ids, position_ids, ends, tuple(_tiles(lengths, bounds, device)))


def _tiles(lengths: np.ndarray, bounds: np.ndarray, device: torch.device | str) -> Iterator[Tile]:
    first = 0
    while first < len(lengths):
        # Few, large products: a little padding in attention costs less than another round of calls. Of few shapes too.
        slack = max(8, int(lengths[first]) // 8)
        last = first + 1
        while last < len(lengths) and abs(int(lengths[last]) - int(lengths[first])) <= slack:
            last += 1
        in_tile = lengths[first:last]
        place = np.arange(_few_sizes(int(in_tile.max()), 8))
        seen = np.zeros((_few_sizes(last - first, 2), len(place)), dtype=bool)
        seen[: len(in_tile)] = place < in_tile[:, None]
        rows = np.full(seen.shape, bounds[first])
        rows[seen] = np.arange(bounds[first], bounds[last])
        places, full = seen.reshape(-1).nonzero()[0], bool(seen.all())
        seen[len(in_tile) :, 0] = True  # a row that sees nothing would be NaN
        yield Tile(
            rows=torch.from_numpy(rows).to(device),
            seen=None if full else torch.from_numpy(seen).to(device),
            places=torch.from_numpy(places).to(device),
            tokens=slice(int(bounds[first]), int(bounds[last])),
        )
        first = last


def _few_sizes(size: int, steps: int) -> int:
    """`size` or a little more: a number with at most `steps` values between a power of two and the next."""
    unit = max(1, 2 ** (size.bit_length() - 1) // steps)
    return -(-size // unit) * unit
