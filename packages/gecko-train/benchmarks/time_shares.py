"""Where the time of a training step goes, by kind of operation, and how much of a CPU's matrix products it reaches.

    uv run python packages/gecko-train/benchmarks/time_shares.py [--write]

One forward and backward pass and optimizer step after another, of all-MiniLM-L6-v2 on the pairs that `speed.py` trains
on, under PyTorch's profiler: the time that operations spend themselves. FLOPs are those of the layers' products and of
attention, three times those of a forward pass; the peak is that of the model's largest product in bf16 or fp32
(gecko-core's `benchmarks/roofline.py`), measured before and after. `--write` writes results/time-shares.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "gecko-core" / "benchmarks")]
import roofline  # noqa: E402
import side_by_side as side  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", default=["python-docs", "first-sentences", "scifact"])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = {source: measured(given, source) for source in given.source}
    lines = [
        "# Where the time of training goes",
        "",
        f"`benchmarks/time_shares.py`: all-MiniLM-L6-v2, {given.precision}, batch {given.batch}, texts of "
        f"{given.length} tokens at most, {given.steps} steps. {side.machine()}.",
        "",
        "| | " + " | ".join(found) + " |",
        "|---" * (len(found) + 1) + "|",
        *(
            f"| {kind} | " + " | ".join(f"{100 * of['shares'].get(kind, 0):.0f}%" for of in found.values()) + " |"
            for kind in (*roofline.KINDS, roofline.REST)
        ),
        "| tokens of a text | " + " | ".join(f"{of['length']:.0f}" for of in found.values()) + " |",
        "| GFLOP/s | " + " | ".join(f"{of['rate']:.0f}" for of in found.values()) + " |",
        "| share of the products' peak | " + " | ".join(f"{100 * of['of_peak']:.0f}%" for of in found.values()) + " |",
    ]
    page = "\n".join(lines) + "\n"
    print(page)
    if given.write:
        (HERE / "results" / "time-shares.md").write_text(page, encoding="utf-8")


def measured(given: argparse.Namespace, source: str) -> dict[str, Any]:
    """Shares of the time by kind, and the rate beside the peak's."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from gecko_core import Gecko

    mixture, _ = side.plan(side.pairs(source), given.batch, given.steps)
    model = Gecko.from_pretrained("all-minilm-l6-v2", device="cpu", dtype="float32")
    dtype = torch.bfloat16 if given.precision == "bf16" else torch.float32
    peaks = [roofline.peak(model, dtype)]

    def train(steps: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return side.ours(
                "all-minilm-l6-v2", (384, 128), mixture, steps, given.precision, given.length, Path(folder),
                micro_batch_tokens=65_536,
            )  # fmt: skip

    train(1)
    unprofiled = train(given.steps)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(given.steps)
    peaks.append(roofline.peak(model, dtype))
    tokens, seconds = sum(unprofiled["tokens"]), sum(unprofiled["seconds"])
    texts = 2 * given.batch * given.steps
    layers, width, inner = roofline.sizes(model)
    attended = 4 * tokens**2 / texts * width  # as if all texts had the mean length, which is the least
    rate = 3 * layers * (2 * tokens * (4 * width**2 + 2 * width * inner) + attended) / seconds / 1e9
    return {
        "shares": roofline.shares(profiler.key_averages()),
        "length": tokens / texts,
        "rate": rate,
        "of_peak": rate / (sum(peaks) / len(peaks)),
    }


if __name__ == "__main__":
    main()
