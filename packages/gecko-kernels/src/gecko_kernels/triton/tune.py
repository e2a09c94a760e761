"""``python -m gecko_kernels.tune``: measure tile choices on this GPU and print the entries for ``tiles.TILES``.

Each kernel's candidates are timed in turn while the other kernels keep their current tile: the forward kernels by the
forward pass of their loss, the coefficient and product kernels by the backward pass.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gecko_kernels.triton.tiles import Tile, architecture_of

SHARES = {1: (1.0,), 2: (1 / 3, 1.0), 5: (1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)}
KERNELS = ("forward", "coefficient", "product", "block_forward", "block_coefficient")
# Kernel -> the tiles of its problem, to be set, and the pass to time.
Passes = dict[str, tuple[dict[str, Tile], Callable[[], object]]]


def candidates() -> Iterator[Tile]:
    """Yield the tiles to measure; those that do not fit the GPU are skipped when they fail to launch."""
    for rows, columns in ((128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 32)):
        for depth in (32, 64, 128):
            for warps in (4, 8):
                for stages in (2, 3, 4):
                    yield Tile(rows, columns, depth, warps, stages)


def milliseconds(function: Callable[[], object], device: torch.device, runs: int) -> float:
    """Return the median time of several runs after one that compiles."""
    function()
    times = []
    for _ in range(runs):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tune(
    rows: int,
    dims: Sequence[int],
    dtype: torch.dtype,
    device: torch.device,
    tiles: Sequence[Tile],
    runs: int = 10,
    report: Callable[[str], None] = print,
) -> dict[str, Tile]:
    """Find the fastest tile of each kernel for one batch size, width and list of prefixes.

    Args:
        rows: batch size B; queries and positives (documents) are random, (B, dims[-1]), all pairs judged.
        dims: Matryoshka prefixes, ascending.
        dtype: of the embeddings.
        device: the GPU to measure.
        tiles: candidates.
        runs: timed runs per candidate.
        report: called with one line per kernel.

    Returns:
        Kernel -> tile, without the kernels that no candidate fits.
    """
    queries, positives = (torch.randn(rows, dims[-1], device=device).to(dtype) for _ in range(2))
    best: dict[str, Tile] = {}
    passes = {**_softmax_passes(queries, positives, dims), **_block_passes(queries, positives, dims)}
    for kernel, (chosen, run) in passes.items():
        fastest = float("inf")
        for tile in tiles:
            chosen[kernel] = tile
            try:
                took = milliseconds(run, device, runs)
            except Exception as error:
                # Too much shared memory, too many registers, a tile the compiler refuses: not an option on this GPU.
                if "OutOfResources" not in type(error).__name__ and "Compilation" not in type(error).__name__:
                    raise
                continue
            if took < fastest:
                fastest, best[kernel] = took, tile
        chosen.pop(kernel)
        if kernel in best:
            chosen[kernel] = best[kernel]
            report(f'"{kernel}": {{{len(dims)}: {best[kernel]}}},  # {fastest:.2f} ms')
    return best


def _softmax_passes(queries: Tensor, positives: Tensor, dims: Sequence[int]) -> Passes:
    from gecko_kernels.triton.contrastive import backward, forward, make_problem

    temperature = torch.full((), 0.05, device=queries.device)
    problem = make_problem(queries, positives, None, None, temperature, None, None, None, dims, True, 0, 0.0)
    losses, lses = forward(problem)
    upstream = torch.full_like(losses, 1 / len(queries))
    passes: Passes = dict.fromkeys(
        ("coefficient", "product"), (problem.tiles, lambda: backward(problem, lses, upstream))
    )
    return {"forward": (problem.tiles, lambda: forward(problem)), **passes}


def _block_passes(queries: Tensor, documents: Tensor, dims: Sequence[int]) -> Passes:
    from gecko_kernels.triton.block_kl import BlockProblem, backward, forward

    targets = torch.randn(len(queries), len(documents), device=queries.device)
    temperature = torch.full((), 0.05, device=queries.device)
    problem = BlockProblem.make(queries, documents, targets, temperature, 1.0, dims)
    losses, lses, teachers = forward(problem)
    upstream = torch.full_like(losses, 1 / len(queries))
    return {
        "block_forward": (problem.tiles, lambda: forward(problem)),
        "block_coefficient": (problem.tiles, lambda: backward(problem, lses, teachers, upstream)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m gecko_kernels.tune", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=32768, help="batch size")
    parser.add_argument("--width", type=int, default=768, help="embedding width")
    parser.add_argument("--prefixes", type=int, default=2, choices=sorted(SHARES), help="number of Matryoshka dims")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: tuning measures on a CUDA device and torch sees none on this machine", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    dims = tuple(max(1, int(options.width * share)) for share in SHARES[options.prefixes])
    print(f"# {torch.cuda.get_device_name(device)}, architecture {architecture_of(device)}, torch {torch.__version__}")
    tune(options.rows, dims, getattr(torch, options.dtype), device, list(candidates()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
