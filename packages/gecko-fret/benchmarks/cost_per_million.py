"""What a million rows cost, at the rates that a finished build has measured.

uv run python packages/gecko-fret/benchmarks/cost_per_million.py runs/fret
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from machine import described, publish, table

from gecko_fret.build.cost import read_measured, scale_to_rows
from gecko_fret.config import parse_config
from gecko_fret.steps.judging import llm_passes


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("error: name the folder of a finished build")
    folder = Path(sys.argv[1])
    measured = read_measured(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    million = scale_to_rows(1e6, measured)
    counts, config, tokens = manifest["counts"], manifest["config"], manifest["tokens"]
    attempts, queries, passed, pairs = counts["attempts"], counts["queries"], measured.passed, counts["scored_pairs"]
    passes, factor = llm_passes(parse_config(config).score), 1e6 / counts["rows"]
    read_writing, read_scoring = (tokens[name]["prompt_tokens"] for name in ("write", "score"))
    rows: list[list[object]] = [
        ["attempts that pass the filters", f"{queries / attempts:.1%}"],
        [f"queries with their seed in the top {config['retrieve']['seed_top_k']}", f"{passed / queries:.1%}"],
        ["of these, rows", f"{counts['rows'] / passed:.1%}"],
        ["tokens read per attempt, shared prefix left out", f"{read_writing / attempts:.0f}"],
        ["tokens written per attempt", f"{tokens['write']['generated_tokens'] / attempts:.0f}"],
        [f"pairs per query, each read {passes} time(s)", f"{pairs / passed:.0f}"],
        ["tokens read per pair, shared prefixes left out", f"{read_scoring / pairs:.0f}"],
    ]
    cost: list[list[object]] = [
        ["attempts", f"{million.attempts / 1e6:.1f} M"],
        ["pairs", f"{million.pairs / 1e6:.0f} M"],
        ["requests", f"{(million.attempts + million.pairs * passes) / 1e6:.0f} M"],
        ["tokens read for writing", f"{read_writing * factor / 1e9:.2f} G"],
        ["tokens written", f"{million.written / 1e9:.2f} G"],
        ["tokens read for scoring", f"{read_scoring * factor / 1e9:.1f} G"],
        ["LLM time at the speed of that build", f"{million.seconds / 86400:.0f} machine-days"],
    ]
    publish(
        "cost_per_million",
        [
            "# Cost of a million rows",
            "",
            f"{described('torch', 'transformers')}. Counted in a build of {counts['attempts']} attempts on "
            f"{manifest['corpus']['name']}, {counts['rows']} rows, with {manifest['models']['llm']['name']}:",
            "",
            *table(["share", "counted"], rows),
            "",
            "A million rows at these rates:",
            "",
            *table(["what", "how much"], cost),
        ],
    )


if __name__ == "__main__":
    main()
