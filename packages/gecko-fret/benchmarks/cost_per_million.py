"""What a million rows cost, by the shares that a finished build has counted.

uv run python packages/gecko-fret/benchmarks/cost_per_million.py runs/fret
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from machine import described, publish, table

from gecko_fret.build.cost import Shares, cost_of_rows, measured_seconds


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("error: name the folder of a finished build")
    folder = Path(sys.argv[1])
    shares = Shares.of(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    million = cost_of_rows(1e6, shares)
    counts, config = manifest["counts"], manifest["config"]
    rows: list[list[object]] = [
        ["attempts that pass the filters", f"{shares.accepted:.1%}"],
        [f"queries with their seed in the top {config['retrieve']['seed_top_k']}", f"{shares.kept:.1%}"],
        ["of these, rows", f"{shares.rows:.1%}"],
        ["tokens read per attempt, shared prefix left out", f"{shares.read_per_attempt:.0f}"],
        ["tokens written per attempt", f"{shares.written_per_attempt:.0f}"],
        [f"pairs per query, each read {shares.passes} time(s)", f"{shares.pairs_per_query:.0f}"],
        ["tokens read per pair, shared prefixes left out", f"{shares.read_per_pair:.0f}"],
    ]
    cost: list[list[object]] = [
        ["attempts", f"{million.attempts / 1e6:.1f} M"],
        ["pairs", f"{million.pairs / 1e6:.0f} M"],
        ["requests", f"{million.requests / 1e6:.0f} M"],
        ["tokens read for writing", f"{million.read_writing / 1e9:.2f} G"],
        ["tokens written", f"{million.written / 1e9:.2f} G"],
        ["tokens read for scoring", f"{million.read_scoring / 1e9:.1f} G"],
        ["LLM time at the speed of that build", f"{measured_seconds(million, shares) / 86400:.0f} machine-days"],
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
            "A million rows at these shares:",
            "",
            *table(["what", "how much"], cost),
        ],
    )


if __name__ == "__main__":
    main()
