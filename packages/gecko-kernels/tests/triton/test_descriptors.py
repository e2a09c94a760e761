"""Which matrices are read by descriptor, and what a kernel gets."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels.triton import descriptors
from gecko_kernels.triton.descriptors import can_describe, describe
from gecko_kernels.triton.tiles import Tile


@pytest.fixture
def hopper(monkeypatch):
    if descriptors.TensorDescriptor is None:
        pytest.skip("this Triton has no descriptors")
    monkeypatch.setattr(descriptors, "architecture_of", lambda device: 90)


def matrix(rows=8, width=128, dtype=torch.bfloat16):
    return torch.zeros(rows, width, dtype=dtype)


def test_whole_steps_of_half_precision(hopper):
    assert can_describe([matrix(), None, matrix(dtype=torch.float16)], (64, 128))


@pytest.mark.parametrize(
    ("matrices", "dims"),
    [
        ([matrix()], (65, 128)),
        ([matrix(dtype=torch.float32)], (64, 128)),
        ([matrix(), matrix(rows=0)], (64, 128)),
        ([torch.zeros(8 * 129, dtype=torch.bfloat16)[1:1025].view(8, 128)], (128,)),  # an address between
        ([matrix(width=130)], (128,)),  # rows that begin between
    ],
)
def test_what_the_copies_cannot_do(hopper, matrices, dims):
    assert not can_describe(matrices, dims)


def test_only_hopper_and_later_have_them(monkeypatch):
    assert not can_describe([matrix()], (128,))  # no GPU
    monkeypatch.setattr(descriptors, "architecture_of", lambda device: 89)
    assert not can_describe([matrix()], (128,))


def test_rows_and_columns_have_their_own_heights(hopper):
    rows, columns, absent = describe([matrix(), matrix(), None], Tile(64, 128, 32, 4, 3), True)
    assert rows.block_shape == [64, 32]
    assert columns.block_shape == [128, 32]
    assert absent is None
    assert describe([matrix(), matrix()], Tile(64, 128, 32, 4, 3), False) == [None, None]


def test_a_copy_that_would_reach_into_the_next_prefix_is_refused():
    with pytest.raises(ValueError, match="divides 64, found 128"):
        describe([matrix()], Tile(64, 128, 128, 4, 3), True)
