"""Writes benchmarks/results/*.csv: time and peak memory of a loss against other compositions.

    python benchmarks/measure.py --rows 4096 --width 768 --prefixes 2           # the CPU goal
    python benchmarks/measure.py --device cuda --dtype bfloat16 --rows 1024 8192 32768 131072 --width 384 768 1024 \\
        --prefixes 1 2 5
    python benchmarks/measure.py --loss block-kl --rows 1024 --documents 4096   # queries and documents of a block

Every row of the file says machine, versions and date. Forward is timed with gradients wanted (as in training); the CPU
path of gecko-kernels computes gradients there, so "both" is the fair column. A composition that runs out of memory
gets a row that says so.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import block_compositions
import compositions
import torch
from torch import Tensor

COMPOSITIONS: dict[str, dict[str, Callable[..., Callable[..., Tensor]]]] = {
    "softmax": compositions.COMPOSITIONS,
    "block-kl": block_compositions.COMPOSITIONS,
}
FILES = {"softmax": "loss", "block-kl": "block-kl"}
PREFIXES = {1: (1.0,), 2: (1.0, 1 / 3), 5: (1.0, 2 / 3, 1 / 3, 1 / 6, 1 / 12)}
FIELDS = [
    "date",
    "machine",
    "threads",
    "torch",
    "triton",
    "sentence_transformers",
    "device",
    "dtype",
    "composition",
    "rows",
    "width",
    "dims",
    "hard_negatives",  # of the softmax loss
    "documents",  # of the block KL loss
    "runs",
    "forward_p20_ms",
    "forward_p50_ms",
    "forward_p80_ms",
    "backward_p20_ms",
    "backward_p50_ms",
    "backward_p80_ms",
    "both_p20_ms",
    "both_p50_ms",
    "both_p80_ms",
    "peak_mib",
    "note",
]


def machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    names = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or '?'} logical cores"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def timed(function: Callable[[], object], device: str) -> float:
    """Milliseconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start)


def peak_mib(function: Callable[[], object], device: str) -> float:
    """Highest number of bytes allocated beside what was there before, in MiB."""
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(profile_memory=True) as profile:
        function()
    held = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


def percentiles(values: list[float]) -> list[str]:
    found = torch.tensor(values).quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
    return [f"{value:.2f}" for value in found]


def make_inputs(options: argparse.Namespace, rows: int, width: int) -> tuple[Tensor | None, ...]:
    dtype = getattr(torch, options.dtype)
    if options.loss == "block-kl":
        return block_compositions.make_inputs(rows, options.documents or rows, width, options.device, dtype)
    return compositions.make_inputs(rows, width, options.hard_negatives, options.device, dtype)


def measure(name: str, dims: tuple[int, ...], options: argparse.Namespace, rows: int, width: int) -> dict[str, object]:
    """One row of the file without what all rows share."""
    out: dict[str, object] = {"composition": name, "rows": rows, "width": width, "dims": "+".join(map(str, dims))}
    try:
        inputs = make_inputs(options, rows, width)
        loss = COMPOSITIONS[options.loss][name](dims)
        compositions.backward(loss, inputs)  # compiles, allocates
        forwards, backwards, both = [], [], []
        kept: list[Tensor] = []
        for _ in range(options.runs):
            kept.clear()
            forwards.append(timed(lambda: kept.append(loss(*inputs)), options.device))
            backwards.append(timed(lambda: kept[0].backward(), options.device))
            both.append(forwards[-1] + backwards[-1])
        for label, values in (("forward", forwards), ("backward", backwards), ("both", both)):
            out.update(zip((f"{label}_{p}_ms" for p in ("p20", "p50", "p80")), percentiles(values), strict=True))
        out["peak_mib"] = f"{peak_mib(lambda: compositions.backward(loss, inputs), options.device):.1f}"
    except (torch.OutOfMemoryError, MemoryError):
        out["note"] = "out of memory"
    except RuntimeError as error:
        out["note"] = str(error).splitlines()[0][:200]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and peak memory of a loss, as CSV.")
    parser.add_argument("--loss", default="softmax", choices=sorted(COMPOSITIONS))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rows", type=int, nargs="+", default=[4096])
    parser.add_argument("--width", type=int, nargs="+", default=[768])
    parser.add_argument("--prefixes", type=int, nargs="+", default=[2], choices=sorted(PREFIXES))
    parser.add_argument("--hard-negatives", type=int, default=0)
    parser.add_argument("--documents", type=int, default=None, help="of a block; default: as many as rows")
    parser.add_argument("--compositions", nargs="+", default=None, help="default: all of the loss")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None, help="default: results/LOSS-DEVICE-DATE.csv beside this file")
    options = parser.parse_args()
    names = options.compositions or list(COMPOSITIONS[options.loss])
    if unknown := set(names) - COMPOSITIONS[options.loss].keys():
        parser.error(f"--compositions: expected some of {', '.join(COMPOSITIONS[options.loss])}, found {min(unknown)}")
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    path = options.out or Path(__file__).parent / "results" / f"{FILES[options.loss]}-{options.device}-{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = {
        "date": day, "machine": machine(options.device), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "triton": installed("triton"),
        "sentence_transformers": installed("sentence-transformers"), "device": options.device,
        "dtype": options.dtype, "runs": options.runs,
        "hard_negatives": options.hard_negatives if options.loss == "softmax" else "",
    }  # fmt: skip
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for rows in options.rows:
            for width in options.width:
                for count in options.prefixes:
                    dims = tuple(int(width * share) for share in PREFIXES[count])
                    block = {"documents": options.documents or rows} if options.loss == "block-kl" else {}
                    for name in names:
                        found = {**shared, **block, **measure(name, dims, options, rows, width)}
                        writer.writerow(found)
                        file.flush()
                        line = found.get("note") or f"{found['both_p50_ms']} ms, {found['peak_mib']} MiB"
                        print(f"{name:30} B={rows} D={width} dims={found['dims']}: {line}", flush=True)
    print(path)


if __name__ == "__main__":
    main()
