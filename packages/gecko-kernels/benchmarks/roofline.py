"""Writes benchmarks/results/roofline-*.csv: the loss against dense matrix products, pooling against a plain copy.

    python benchmarks/roofline.py --device cuda --dtype bfloat16 --rows 32768 --width 768
    python benchmarks/roofline.py --rows 4096                                  # CPU, float32

Both sides are measured in one run on one machine. The loss is credited with the operations of docs/kernels.md that
must be done (7 units of 2 B^2 D on CUDA, 5 on CPU), whatever more it does; pooling with the valid tokens' bytes alone.
"""

from __future__ import annotations

import argparse
import csv
import datetime
from collections.abc import Callable
from pathlib import Path

import torch
from compositions import backward, make_inputs, ours
from measure import installed, machine, timed

from gecko_kernels import masked_mean_pool, packed_mean_pool

UNITS = {"cuda": 7, "cpu": 5}


def median(function: Callable[[], object], device: str, runs: int) -> float:
    """Seconds, after one run that compiles."""
    function()
    return sorted(timed(function, device) for _ in range(runs))[runs // 2] / 1e3


def matmul_rate(side: int, device: str, dtype: torch.dtype, runs: int) -> float:
    """TFLOP/s of a square product."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median(lambda: a @ b, device, runs) / 1e12


def copy_rate(megabytes: int, device: str, runs: int) -> float:
    """GB/s read and written by a copy."""
    source = torch.zeros(megabytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / median(lambda: target.copy_(source), device, runs) / 1e9


def loss_rows(options: argparse.Namespace, dtype: torch.dtype) -> list[dict[str, object]]:
    """The loss with 1, 2 and 5 prefixes beside the rate of a matrix product."""
    rate = matmul_rate(8192 if options.device == "cuda" else 2048, options.device, dtype, options.runs)
    out: list[dict[str, object]] = [{"what": "matrix product", "value": f"{rate:.4g}", "unit": "TFLOP/s"}]
    unit = 2 * options.rows**2 * options.width
    inputs = make_inputs(options.rows, options.width, 0, options.device, dtype)
    for shares in ((1,), (1, 3), (1, 2, 3, 6, 12)):
        dims = tuple(options.width // share for share in shares)
        loss = ours(dims)
        seconds = median(lambda loss=loss: backward(loss, inputs), options.device, options.runs)  # type: ignore[misc]
        reached = UNITS[options.device] * unit / seconds / 1e12
        out.append(
            {
                "what": f"loss, forward + backward, B={options.rows} D={options.width} dims={'+'.join(map(str, dims))}",
                "milliseconds": f"{1e3 * seconds:.4g}",
                "value": f"{reached:.4g}",
                "unit": "TFLOP/s that must be done",
                "share": f"{reached / rate:.3f}",
            }
        )
    return out


def pooling_rows(options: argparse.Namespace, dtype: torch.dtype) -> list[dict[str, object]]:
    """Pooling of sequences of very different lengths beside the rate of a copy."""
    rate = copy_rate(2048 if options.device == "cuda" else 256, options.device, options.runs)
    out: list[dict[str, object]] = [{"what": "copy", "value": f"{rate:.4g}", "unit": "GB/s"}]
    rows, length = (16_384, 512) if options.device == "cuda" else (64, 256)
    lengths = torch.randint(1, length + 1, (rows,), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(length) < lengths[:, None]).to(options.device)
    hidden = torch.randn(rows, length, options.width, device=options.device).to(dtype)
    packed = hidden[mask].contiguous()
    bounds = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(options.device)
    read = int(lengths.sum()) * options.width * hidden.element_size()
    wrote = rows * options.width * hidden.element_size()
    norms = (options.width, options.width // 3)
    for name, pool in (
        ("padded", lambda: masked_mean_pool(hidden, mask)),
        (
            "padded, normalised, prefix norms",
            lambda: masked_mean_pool(hidden, mask, normalize=True, prefix_norms=norms),
        ),
        ("packed", lambda: packed_mean_pool(packed, bounds)),
    ):
        seconds = median(pool, options.device, options.runs)
        reached = (read + wrote) / seconds / 1e9
        out.append(
            {
                "what": f"pooling, {name}, B={rows} L<={length} D={options.width}",
                "milliseconds": f"{1e3 * seconds:.4g}",
                "value": f"{reached:.4g}",
                "unit": "GB/s of valid tokens",
                "share": f"{reached / rate:.3f}",
            }
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="The kernels against the machine's own rates, as CSV.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None, help="default: results/roofline-DEVICE-DATE.csv")
    options = parser.parse_args()
    day = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    path = options.out or Path(__file__).parent / "results" / f"roofline-{options.device}-{day}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = getattr(torch, options.dtype)
    shared = {
        "date": day, "machine": machine(options.device), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "triton": installed("triton"), "device": options.device, "dtype": options.dtype,
    }  # fmt: skip
    found = loss_rows(options, dtype) + pooling_rows(options, dtype)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*shared, "what", "milliseconds", "value", "unit", "share"])
        writer.writeheader()
        for row in found:
            writer.writerow({**shared, **row})
            print(", ".join(str(value) for value in row.values()))
    print(path)


if __name__ == "__main__":
    main()
