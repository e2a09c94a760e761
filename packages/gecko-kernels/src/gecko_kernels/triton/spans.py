"""Spans of columns: a forward kernel's rows alone may be too few programs to fill a GPU.

A program walks one span for its block of rows; the spans' partial sums, (spans, rows, prefixes), are combined in a
fixed order.
"""

from __future__ import annotations

import triton
from torch import Tensor

from gecko_kernels.triton.tiles import Tile

# Programs of a forward launch, about two for each multiprocessor of a large GPU. A constant, so that the order of the
# sums depends on the shapes alone.
PROGRAMS = 256


def span_columns(rows: int, columns: int, tile: Tile) -> int:
    """Return the columns of a program of a forward kernel: whole tiles, as many as leave ``PROGRAMS`` programs."""
    tiles = triton.cdiv(columns, tile.columns)
    spans = min(tiles, triton.cdiv(PROGRAMS, triton.cdiv(rows, tile.rows)))
    return int(triton.cdiv(tiles, spans) * tile.columns)


def log_sum(tops: Tensor, totals: Tensor) -> Tensor:
    """Combine (spans, rows, prefixes) maxima and sums of exp2(logit - maximum) to the log-sum-exp in base 2."""
    if len(tops) == 1:
        return tops[0] + totals[0].log2()
    top = tops.amax(0)
    return top + (totals * (tops - top).exp2()).sum(0).log2()
