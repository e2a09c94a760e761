"""Spans of columns: whole tiles, enough programs, and a combination that is the log-sum-exp."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels.triton.spans import PROGRAMS, log_sum, span_columns
from gecko_kernels.triton.tiles import Tile

TILE = Tile(128, 64, 64, 8, 3)


@pytest.mark.parametrize("rows", [1, 100, 4_096, 32_768, 1_000_000])
@pytest.mark.parametrize("columns", [1, 64, 65, 4_096, 100_000])
def test_whole_tiles_and_no_empty_span(rows, columns):
    span = span_columns(rows, columns, TILE)
    assert span % TILE.columns == 0
    spans = -(-columns // span)
    assert (spans - 1) * span < columns <= spans * span
    assert spans == 1 or spans * -(-rows // TILE.rows) <= 2 * PROGRAMS


def test_few_rows_are_divided_and_many_are_not():
    assert span_columns(128, 100_000, TILE) < 100_000
    assert span_columns(1_000_000, 100_000, TILE) >= 100_000


@pytest.mark.parametrize("spans", [1, 3])
def test_combines_to_the_log_sum_exp_in_base_2(spans):
    logits = 50 * torch.randn(spans, 5, 2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tops = logits.amax(-1)
    totals = (logits - tops[..., None]).exp2().sum(-1)
    expected = logits.permute(1, 2, 0, 3).reshape(5, 2, -1).exp2().sum(-1).log2()
    assert torch.allclose(log_sum(tops, totals), expected, rtol=1e-12)


def test_a_span_of_masked_pairs_adds_nothing():
    tops = torch.tensor([[[3.0]], [[-1e18]]])
    totals = torch.tensor([[[2.0]], [[0.0]]])
    assert log_sum(tops, totals).item() == 4.0
