"""The tuner under the interpreter: it times what it is given and returns the choices."""

from __future__ import annotations

import torch

from gecko_kernels.triton.tiles import Tile
from gecko_kernels.triton.tune import DEPTHS, KERNELS, STAGES, depths, milliseconds, shapes, tune


def test_finds_a_tile_for_every_kernel():
    tiles = [Tile(16, 16, 16, 1, 1), Tile(32, 16, 16, 1, 1)]
    lines: list[str] = []
    seen: list[Tile | None] = []

    def second(best: Tile | None) -> list[Tile]:
        seen.append(best)
        return [Tile(16, 32, 16, 1, 1)]

    rounds = [lambda _: tiles, second]
    best = tune(16, (8, 16), torch.float32, torch.device("cpu"), rounds, runs=1, report=lines.append)
    assert set(best) == set(KERNELS)
    assert all(tile in [*tiles, Tile(16, 32, 16, 1, 1)] for tile in best.values())
    assert all(tile in tiles for tile in seen)
    assert len(lines) == 2 * len(KERNELS)
    assert lines[0].startswith('"forward": {2: Tile(')


def test_the_second_round_varies_depth_and_stages_of_the_best():
    best = Tile(128, 64, 64, 8, 3)
    assert best in shapes()
    assert best not in depths(best)
    assert {(tile.rows, tile.columns, tile.warps) for tile in depths(best)} == {(128, 64, 8)}
    assert len({(tile.depth, tile.stages) for tile in depths(best)}) == len(DEPTHS) * len(STAGES) - 1


def test_shapes_can_be_given():
    assert {(tile.rows, tile.columns) for tile in shapes([(64, 128)])} == {(64, 128)}


def test_tunes_the_kernels_that_are_asked_for():
    device = torch.device("cpu")
    rounds = [lambda _: [Tile(16, 16, 16, 1, 1)]]
    assert set(tune(16, (16,), torch.float32, device, rounds, runs=1, kernels=["product"])) == {"product"}


def test_processes_compile_before():
    rounds = [lambda _: [Tile(16, 16, 16, 1, 1)], lambda best: [Tile(16, 32, 16, 1, 1)] if best else []]
    device = torch.device("cpu")
    assert set(tune(16, (16,), torch.float32, device, rounds, runs=1, kernels=["forward"], jobs=2)) == {"forward"}


def test_a_hopeless_candidate_is_timed_once():
    calls = []
    milliseconds(lambda: calls.append(1), torch.device("cpu"), 5, limit=-1.0)
    assert len(calls) == 2  # one that compiles, one that is timed
