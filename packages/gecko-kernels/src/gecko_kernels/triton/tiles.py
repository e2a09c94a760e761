"""Tile choices per architecture, as data. ``python -m gecko_kernels.tune`` measures and prints better ones.

Nothing is tuned at run time: a kernel takes the entry of its architecture, or of the nearest older one. All entries
fit into shared memory on sm_80, sm_90 and sm_100, and those of ``TILES`` spill a few registers at most (the tests
compile them); they have not been tuned by measurement. Of ``DESCRIBED``, "forward" and "coefficient" were the fastest
on an H200 at B = 32,768, D = 768 in bfloat16 of some dozen candidates each (2026-11-26, torch 2.11, Triton 3.6; the
kernels for several prefixes have been rewritten since); those of the block KL loss are like them, and not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch


@dataclass(frozen=True)
class Tile:
    """Rows x columns of a program's tile, the step along the summed axis, warps and pipeline stages."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int


# Architecture -> kernel -> at most this many Matryoshka prefixes -> tile; float32 inputs halve columns and depth. From
# two prefixes on the coefficient kernels hold what one of them gives a tile beside the product, in registers; those
# of the block KL loss hold a tile of targets as well.
TILES: dict[int, dict[str, dict[int, Tile]]] = {
    80: {
        "forward": {8: Tile(64, 64, 64, 8, 3)},
        "coefficient": {1: Tile(64, 64, 64, 4, 3), 2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
        "product": {8: Tile(64, 128, 64, 4, 3)},
        "block_forward": {2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
        "block_coefficient": {2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
    },
    90: {
        "forward": {1: Tile(128, 128, 64, 8, 3), 2: Tile(128, 64, 64, 8, 3), 8: Tile(64, 64, 64, 8, 2)},
        "coefficient": {1: Tile(128, 64, 64, 8, 3), 2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 64, 8, 3)},
        "product": {8: Tile(128, 128, 64, 8, 3)},
        "block_forward": {1: Tile(128, 64, 64, 8, 3), 2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
        "block_coefficient": {1: Tile(128, 64, 64, 8, 3), 2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
    },
    100: {
        "forward": {1: Tile(128, 64, 64, 8, 3), 8: Tile(64, 64, 64, 8, 3)},
        "coefficient": {2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 64, 8, 3)},
        "product": {8: Tile(128, 128, 64, 8, 3)},
        "block_forward": {2: Tile(128, 64, 64, 8, 3), 8: Tile(64, 64, 64, 8, 3)},
        "block_coefficient": {1: Tile(128, 64, 64, 8, 3), 2: Tile(64, 64, 64, 8, 3), 8: Tile(64, 32, 32, 8, 3)},
    },
}
# Of kernels that read by descriptor (``descriptors``), which leaves registers for larger tiles.
DESCRIBED: dict[int, dict[str, dict[int, Tile]]] = {
    90: {
        "forward": {1: Tile(128, 256, 64, 8, 4), 2: Tile(64, 128, 64, 4, 4), 8: Tile(64, 128, 64, 4, 3)},
        "coefficient": {2: Tile(64, 128, 64, 4, 4), 8: Tile(64, 64, 64, 4, 3)},
        "block_forward": {2: Tile(64, 128, 64, 4, 4), 8: Tile(64, 64, 64, 4, 3)},
        "block_coefficient": {2: Tile(64, 128, 64, 4, 4), 8: Tile(64, 64, 64, 4, 3)},
    },
}
# Small, so that small tests span several tiles.
INTERPRETED = Tile(16, 16, 16, 1, 1)
MAX_PREFIXES = 8


def choose_tile(
    kernel: str, prefixes: int, dtype: torch.dtype, architecture: int | None, described: bool = False
) -> Tile:
    """Choose the tile of a kernel.

    Args:
        kernel: a name in ``TILES``.
        prefixes: number of Matryoshka dims, at most ``MAX_PREFIXES``.
        dtype: of the inputs.
        architecture: compute capability as 80, 90, 100; None where kernels are interpreted.
        described: whether the kernel reads by descriptor.
    """
    if architecture is None:
        return INTERPRETED
    tables = DESCRIBED if described and kernel in DESCRIBED[min(DESCRIBED)] else TILES
    known = max((entry for entry in tables if entry <= architecture), default=min(tables))
    table = tables[known][kernel]
    tile = table[min(count for count in table if count >= prefixes)]
    if dtype == torch.float32:
        return Tile(tile.rows, max(32, tile.columns // 2), tile.depth // 2, tile.warps, tile.stages)
    return tile


@lru_cache
def architecture_of(device: torch.device) -> int | None:
    """Return 80 for an A100, 90 for an H100 or H200, 100 for a B200; None off CUDA (interpreted)."""
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
