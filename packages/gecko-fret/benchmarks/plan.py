"""What many rows and a large student will take, at the rates that a finished build has counted.

    uv run python packages/gecko-fret/benchmarks/plan.py runs/fret
    uv run python packages/gecko-fret/benchmarks/plan.py runs/fret --rows 1e6 --weights 8e9 --reading 0.3

Counted, in the build: attempts, pairs and tokens by row, bytes by row and step. Assumed, by options: the LLM's weights,
the share of the processor's peak that reading and writing reach, the corpus, the student. Scaled is everything in
proportion, as it is in a build (`scale.py` shows that). The packaged recipe `gecko-1b` says where the training's
numbers are from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from machine import described, publish, table

from gecko_fret.build.cost import read_measured, scale_to_rows
from gecko_fret.config import parse_config
from gecko_fret.steps import STEPS

LLMS = (135e6, 1.5e9, 8e9, 70e9)
PEAKS = {"H100, 989 TFLOPS in bf16": 989e12, "A100, 312 TFLOPS in bf16": 312e12}
CHARACTERS = 4  # of a token of English text, sent to a server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a finished build")
    parser.add_argument("--rows", type=float, default=6.6e6, help="of training data; the paper has 6.6 million")
    parser.add_argument("--passages", type=float, help="of the corpus; default: one a row")
    parser.add_argument("--weights", type=float, nargs="+", default=list(LLMS), help="of the LLM")
    parser.add_argument("--reading", type=float, default=0.4, help="share of the peak that reading prompts reaches")
    parser.add_argument("--writing", type=float, default=0.05, help="likewise writing, which memory limits")
    parser.add_argument("--dim", type=int, default=768, help="of the embeddings that are searched")
    parser.add_argument("--student", type=float, default=1.2e9, help="weights of the student")
    parser.add_argument("--tokens", type=float, default=3.9e10, help="of both stages of training")
    options = parser.parse_args()
    measured = read_measured(options.folder)
    manifest: dict[str, Any] = json.loads((options.folder / "manifest.json").read_text(encoding="utf-8"))
    scaled, counts = scale_to_rows(options.rows, measured), manifest["counts"]
    passages = options.passages or options.rows
    lines = [
        "# A plan for many rows",
        "",
        f"{described('torch', 'transformers')}. Counted in a build of {counts['attempts']:,} attempts and "
        f"{counts['scored_pairs']:,} pairs on {manifest['corpus']['name']}, {counts['rows']:,} rows, with "
        f"{manifest['models']['llm']['name']}; scaled to {options.rows:,.0f} rows on {passages:,.0f} passages.",
        "",
        *table(
            ["of the LLM", "how much"],
            [
                ["queries asked for", f"{scaled.attempts / 1e6:.1f} M"],
                ["pairs judged", f"{scaled.pairs / 1e6:.0f} M"],
                ["tokens read, shared prefixes left out", f"{scaled.read / 1e9:.1f} G"],
                ["tokens written", f"{scaled.written / 1e9:.2f} G"],
                ["sent to a server, at 4 characters a token", f"{scaled.read * CHARACTERS / 2**30:.0f} GiB"],
                ["at the speed of that build, on its machine", f"{scaled.seconds / 86400:.0f} days"],
            ],
        ),
        "",
        f"GPU hours of the LLM: 2 FLOPs a weight and token, {options.reading:.0%} of the peak in reading and "
        f"{options.writing:.0%} in writing.",
        "",
        *gpu_hours(options, scaled.read, scaled.written),
        "",
        f"GPU hours of training a student of {options.student / 1e9:g} G weights on {options.tokens:.2g} tokens, "
        "8 FLOPs a weight and token (gradient caching included), 40% of the peak: "
        + ", ".join(
            f"{options.student * options.tokens * 8 / (0.4 * peak) / 3600:,.0f} ({name})"
            for name, peak in PEAKS.items()
        )
        + ".",
        "",
        "Files, at the bytes of that build by row, and at its `part_size`:",
        "",
        *table(["step", "GiB", "files", "with part_size 2048"], storage(options, counts, manifest["config"])),
        "",
        f"Embeddings of the corpus in float32, {options.dim} dims: {passages * options.dim * 4 / 2**30:.1f} GiB on "
        "disk, and in memory while they are searched; the graph of hnswlib (16 links a passage) another "
        f"{passages * (options.dim * 4 + 16 * 2 * 4 + 24) / 2**30:.1f} GiB.",
    ]
    publish("plan", lines)


def gpu_hours(options: argparse.Namespace, read: float, written: float) -> list[str]:
    """Hours by LLM and GPU."""
    rows: list[list[object]] = []
    for weights in options.weights:
        hours = [
            2 * weights * (read / (options.reading * peak) + written / (options.writing * peak)) / 3600
            for peak in PEAKS.values()
        ]
        rows.append([f"{weights / 1e9:g} G", *(f"{value:,.1f}" if value < 10 else f"{value:,.0f}" for value in hours)])
    return table(["weights of the LLM", *PEAKS], rows)


def storage(options: argparse.Namespace, counts: dict[str, int], config: dict[str, Any]) -> list[list[object]]:
    """Bytes and files by step, of the scaled build."""
    factor = options.rows / counts["rows"]
    settings = parse_config(config)
    rows: list[list[object]] = []
    for step in STEPS:
        files = [path for path in step.part_files(options.folder) if path.is_file()]
        if not files or step.name in ("corpus", "measure", "embed"):
            continue  # those do not grow with the rows
        size = sum(path.stat().st_size for path in files) * factor
        parts = len(files) * factor
        section = settings.generate if step.name == "write" else settings.retrieve
        larger = parts * section.part_size / 2048
        rows.append([step.name, f"{size / 2**30:.1f}", f"{parts:,.0f}", f"{larger:,.0f}"])
    return rows


if __name__ == "__main__":
    main()
