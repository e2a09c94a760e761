"""``python -m gecko_kernels.tune``: measure tile choices on this GPU and print the entries for ``tiles``.

They belong into ``DESCRIBED`` where the kernels read by descriptor, else into ``TILES``; the first line says which.

Each kernel's candidates are timed in turn while the other kernels keep their current tile: the forward kernels by the
forward pass of their loss, the coefficient and product kernels by the backward pass. Shapes and warps come first, then
depth and stages of the best of them. Compilation takes longer than the timing: ``--jobs`` processes compile a round's
candidates into Triton's cache beforehand. ``--kernels``, ``--shapes`` and ``--rounds 1``
narrow that down to half a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch
from torch import Tensor

from gecko_kernels.triton.descriptors import can_describe
from gecko_kernels.triton.tiles import Tile, architecture_of

SHARES = {1: (1.0,), 2: (1 / 3, 1.0), 5: (1 / 12, 1 / 6, 1 / 3, 2 / 3, 1.0)}
SOFTMAX = ("forward", "coefficient", "product")
BLOCK = ("block_forward", "block_coefficient")
KERNELS = SOFTMAX + BLOCK
SHAPES = ((256, 128), (128, 256), (256, 64), (128, 128), (128, 64), (64, 256), (64, 128), (64, 64), (64, 32))
DEPTHS, WARPS, STAGES = (32, 64), (4, 8), (2, 3, 4, 5)
#: Rows that are enough to compile a kernel: of the same divisibility as a real batch.
COMPILED_ROWS = 512
#: A candidate this much slower than the best so far in its first run is not timed again.
HOPELESS = 1.5
Result = TypeVar("Result")
#: Kernel, tile, rows, prefixes, precision, device.
ToCompile = tuple[str, Tile, int, tuple[int, ...], torch.dtype, torch.device]
# Kernel -> the tiles of its problem, to be set, and the pass to time.
Passes = dict[str, tuple[dict[str, Tile], Callable[[], object]]]


def shapes(allowed: Sequence[tuple[int, int]] = SHAPES) -> list[Tile]:
    """Return the candidates of the first round; those that do not fit the GPU are skipped when they fail to launch."""
    return [Tile(*shape, 64, warps, 3) for shape in allowed for warps in WARPS]


def depths(best: Tile) -> list[Tile]:
    """Return the candidates of the second round: the best of the first, of other depths and stages."""
    others = [Tile(best.rows, best.columns, depth, best.warps, stages) for depth in DEPTHS for stages in STAGES]
    return [tile for tile in others if tile != best]


def milliseconds(function: Callable[[], object], device: torch.device, runs: int, limit: float = float("inf")) -> float:
    """Return the median time of several runs after one that compiles; of one if that takes longer than ``limit``."""
    function()
    times: list[float] = []
    while len(times) < runs and not (times and times[0] > limit):
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
    rounds: Sequence[Callable[[Tile | None], Sequence[Tile]]],
    runs: int = 10,
    kernels: Sequence[str] = KERNELS,
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> dict[str, Tile]:
    """Find the fastest tile of each kernel for one batch size, width and list of prefixes.

    Args:
        rows: batch size B; queries and positives (documents) are random, (B, dims[-1]), all pairs judged.
        dims: Matryoshka prefixes, ascending.
        dtype: of the embeddings.
        device: the GPU to measure.
        rounds: each gives candidates, from the best tile so far (None in the first).
        runs: timed runs per candidate.
        kernels: names to tune, among ``KERNELS``.
        jobs: processes that compile.
        report: called with one line per kernel and round.

    Returns:
        Kernel -> tile, without the kernels that no candidate fits.
    """
    queries, positives = (torch.randn(rows, dims[-1], device=device).to(dtype) for _ in range(2))
    passes = _passes(queries, positives, dims, kernels)
    fastest = dict.fromkeys(passes, float("inf"))
    best: dict[str, Tile] = {}
    for candidates in rounds:
        wanted = {kernel: candidates(best.get(kernel)) for kernel in passes}
        few = min(rows, COMPILED_ROWS)
        wanted_now = [(kernel, tile, few, tuple(dims), dtype, device) for kernel in wanted for tile in wanted[kernel]]
        _compile_all(wanted_now, jobs)
        for kernel, (chosen, run) in passes.items():
            for tile in wanted[kernel]:
                chosen[kernel] = tile
                took = _fits(lambda run=run, kernel=kernel: milliseconds(run, device, runs, HOPELESS * fastest[kernel]))  # type: ignore[misc]
                if took is not None and took < fastest[kernel]:
                    fastest[kernel], best[kernel] = took, tile
            chosen.pop(kernel)
            if kernel in best:
                chosen[kernel] = best[kernel]
                report(f'"{kernel}": {{{len(dims)}: {best[kernel]}}},  # {fastest[kernel]:.2f} ms')
    return best


def _fits(run: Callable[[], Result]) -> Result | None:
    try:
        return run()
    except Exception as error:
        # Too much shared memory, too many registers, a tile the compiler refuses: not an option on this GPU.
        if "OutOfResources" not in type(error).__name__ and "Compilation" not in type(error).__name__:
            raise
        return None


def _compile_all(wanted: Iterable[ToCompile], jobs: int) -> None:
    if jobs > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            list(pool.map(_compile, *zip(*wanted, strict=True)))


def _compile(
    kernel: str, tile: Tile, rows: int, dims: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Run a kernel once on a small batch: what is compiled lands in Triton's cache."""
    queries, positives = (torch.randn(rows, dims[-1], device=device).to(dtype) for _ in range(2))
    chosen, run = _passes(queries, positives, dims, [kernel])[kernel]
    chosen[kernel] = tile
    _fits(run)


def _passes(queries: Tensor, positives: Tensor, dims: Sequence[int], kernels: Sequence[str]) -> Passes:
    passes: Passes = {}
    if set(kernels) & set(SOFTMAX):
        passes |= _softmax_passes(queries, positives, dims)
    if set(kernels) & set(BLOCK):
        passes |= _block_passes(queries, positives, dims)
    return {kernel: passes[kernel] for kernel in kernels}


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


def _shape(text: str) -> tuple[int, int]:
    rows, columns = text.split("x")
    return int(rows), int(columns)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m gecko_kernels.tune", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=32768, help="batch size")
    parser.add_argument("--width", type=int, default=768, help="embedding width")
    parser.add_argument("--prefixes", type=int, default=2, choices=sorted(SHARES), help="number of Matryoshka dims")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--kernels", nargs="+", default=KERNELS, choices=KERNELS, metavar="KERNEL", help="default: all")
    parser.add_argument(
        "--shapes", nargs="+", type=_shape, default=SHAPES, metavar="ROWSxCOLUMNS", help="of the first round's tiles"
    )
    parser.add_argument("--rounds", type=int, default=2, choices=(1, 2), help="1: no other depths and stages")
    parser.add_argument("--runs", type=int, default=10, help="timed runs of a candidate")
    parser.add_argument("--jobs", type=int, default=4, help="processes that compile")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("error: tuning measures on a CUDA device and torch sees none on this machine", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    dims = tuple(max(1, int(options.width * share)) for share in SHARES[options.prefixes])
    like = torch.empty(1, options.width, dtype=getattr(torch, options.dtype), device=device)
    table = "DESCRIBED (product: TILES)" if can_describe([like], dims) else "TILES"
    print(f"# {torch.cuda.get_device_name(device)}, architecture {architecture_of(device)}, torch {torch.__version__}")
    print(f"# for {table}")
    rounds = (lambda _: shapes(options.shapes), lambda best: depths(best) if best else [])[: options.rounds]
    dtype = getattr(torch, options.dtype)
    tune(options.rows, dims, dtype, device, rounds, options.runs, options.kernels, options.jobs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
