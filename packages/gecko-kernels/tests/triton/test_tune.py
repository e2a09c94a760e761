"""The tuner under the interpreter: it times what it is given and returns the choices."""

from __future__ import annotations

import torch

from gecko_kernels.triton.tiles import Tile
from gecko_kernels.triton.tune import KERNELS, tune


def test_finds_a_tile_for_every_kernel():
    tiles = [Tile(16, 16, 16, 1, 1), Tile(32, 16, 16, 1, 1)]
    lines: list[str] = []
    best = tune(16, (8, 16), torch.float32, torch.device("cpu"), tiles, runs=1, report=lines.append)
    assert set(best) == set(KERNELS)
    assert all(tile in tiles for tile in best.values())
    assert len(lines) == len(KERNELS)
    assert lines[0].startswith('"forward": {2: Tile(')
