"""Tile choices: every architecture finds one, and the tuner refuses a machine without a GPU in one line."""

from __future__ import annotations

import pytest
import torch

from gecko_kernels.triton.descriptors import STEP
from gecko_kernels.triton.tiles import DESCRIBED, INTERPRETED, MAX_PREFIXES, TILES, choose_tile
from gecko_kernels.triton.tune import main, shapes


@pytest.mark.parametrize("architecture", [75, 80, 86, 89, 90, 100, 120])
@pytest.mark.parametrize("kernel", TILES[80])
def test_every_architecture_has_a_tile(kernel, architecture):
    for prefixes in range(1, MAX_PREFIXES + 1):
        half = choose_tile(kernel, prefixes, torch.bfloat16, architecture)
        single = choose_tile(kernel, prefixes, torch.float32, architecture)
        assert all(size & (size - 1) == 0 and size >= 16 for size in (half.rows, half.columns, half.depth))
        assert single.columns * single.depth < half.columns * half.depth


@pytest.mark.parametrize("architecture", [90, 100, 120])
@pytest.mark.parametrize("kernel", TILES[80])
def test_described_tiles_are_whole_steps(kernel, architecture):
    for prefixes in range(1, MAX_PREFIXES + 1):
        tile = choose_tile(kernel, prefixes, torch.bfloat16, architecture, described=True)
        if kernel in DESCRIBED[90]:
            assert STEP % tile.depth == 0
        else:
            assert tile == choose_tile(kernel, prefixes, torch.bfloat16, architecture)


def test_unknown_architecture_takes_the_nearest_older_one():
    assert choose_tile("forward", 1, torch.bfloat16, 89) == choose_tile("forward", 1, torch.bfloat16, 80)
    assert choose_tile("forward", 1, torch.bfloat16, None) == INTERPRETED


def test_candidates_differ():
    tiles = shapes()
    assert len(set(tiles)) == len(tiles) > 10


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine could tune")
def test_tuner_without_gpu_says_so(capsys):
    assert main([]) == 2
    assert "CUDA device" in capsys.readouterr().err
