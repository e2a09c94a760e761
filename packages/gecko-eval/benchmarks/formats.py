"""What the format of matrix products costs in quality, and how long it takes: the same tasks in fp32, bf16 and int8.

    GECKO_DATA_DIR=... uv run python packages/gecko-eval/benchmarks/formats.py [--tasks SciFact ...] [--write]

The weights are the same; `auto` takes bf16 where the processor has it. Scores are the tasks' main ones, in percent.
`--write` writes results/formats.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

FORMATS = ("float32", "auto", "int8")
TASKS = ["SciFact", "STSBenchmark", "Banking77Classification"]
RESULTS = Path(__file__).parent / "results" / "formats.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-minilm-l6-v2")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if "GECKO_DATA_DIR" not in os.environ:
        sys.exit("GECKO_DATA_DIR is not set: this needs the folders of judged sets")
    page = measured(options)
    print(page)
    if options.write:
        RESULTS.write_text(page + "\n", encoding="utf-8")


def measured(options: argparse.Namespace) -> str:
    import torch

    from gecko_eval.baselines import load_model
    from gecko_eval.mteb.entries import entries_for
    from gecko_eval.mteb.run import go_offline, run_tasks

    go_offline()
    entries = entries_for(options.tasks, Path(os.environ["GECKO_DATA_DIR"]), drop_unjudged=True)
    lines = [
        f"# Formats of matrix products: {options.model}",
        "",
        f"{date.today()}; {platform.machine()}, {torch.get_num_threads()} threads; torch {torch.__version__}. "
        "`benchmarks/formats.py`: main scores in percent, and seconds of loading, encoding and scoring all tasks.",
        "",
        "| --dtype | products | " + " | ".join(entry.name for entry in entries) + " | seconds |",
        "|---|---|" + "---:|" * (len(entries) + 1),
    ]
    for dtype in FORMATS:
        model = load_model(options.model, device="cpu", dtype=None if dtype == "auto" else dtype)
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = run_tasks(
                model, entries, [model.dim], Path(folder) / "out", say=lambda line: print(line, file=sys.stderr)
            )
        seconds = time.perf_counter() - began
        scores = [100 * found["tasks"][entry.name]["scores"][str(model.dim)]["main"] for entry in entries]
        lines.append(
            f"| {dtype} | {model.precision} | " + " | ".join(f"{s:.2f}" for s in scores) + f" | {seconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
