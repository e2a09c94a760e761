"""What frozen layers save: steps of all-MiniLM-L6-v2 with its lowest layers frozen, beside steps that train all of it.

    uv run python packages/gecko-train/benchmarks/frozen.py [--write]

The same batches in turn, two epochs of them: in the first one the frozen layers' states of every text are computed, in
the second one they are read. Ratios of tokens per second within a round, their median. `--write` writes
results/frozen.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import side_by_side as side  # noqa: E402

EPOCHS = ("first epoch", "second epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", nargs="+", default=["python-docs", "first-sentences"], help="see side_by_side.py")
    parser.add_argument("--frozen", nargs="+", type=int, default=[2, 4, 5], help="of six layers")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of an epoch")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    lines = [
        "# Frozen layers",
        "",
        f"`benchmarks/frozen.py`: all-MiniLM-L6-v2, {given.precision}, batch {given.batch}, texts of {given.length} "
        f"tokens at most; tokens a second, and how many times those of training all layers, median of {given.rounds} "
        f"rounds in turn. {side.machine()}.",
        "",
        "| pairs | frozen layers | " + " | ".join(EPOCHS) + " |",
        "|---" * (len(EPOCHS) + 2) + "|",
    ]
    for source in given.source:
        rounds = [measured(given, source) for _ in range(given.rounds)]
        for frozen in (0, *given.frozen):
            cells = []
            for epoch in range(len(EPOCHS)):
                rate = statistics.median(of[frozen][epoch] for of in rounds)
                gain = statistics.median(of[frozen][epoch] / of[0][epoch] for of in rounds)
                cells.append(f"{rate:,.0f}" + (f" ({gain:.2f}x)" if frozen else ""))
            lines.append(f"| {source} | {frozen or 'none'} | " + " | ".join(cells) + " |")
    page = "\n".join(lines) + "\n"
    print(page)
    if given.write:
        (HERE / "results" / "frozen.md").write_text(page, encoding="utf-8")


def measured(given: argparse.Namespace, source: str) -> dict[int, list[float]]:
    """Tokens a second of each epoch, by the number of frozen layers."""
    rows = side.pairs(source)[: given.batch * given.steps]
    found = {}
    for frozen in (0, *given.frozen):
        mixture, _ = side.plan(rows, given.batch, 0)
        with tempfile.TemporaryDirectory() as folder:
            run: dict[str, Any] = side.ours(
                "all-minilm-l6-v2", (384, 128), mixture, given.steps * len(EPOCHS), given.precision, given.length,
                Path(folder), frozen_layers=frozen,
            )  # fmt: skip
        found[frozen] = [
            sum(run["tokens"][first : first + given.steps]) / sum(run["seconds"][first : first + given.steps])
            for first in range(0, given.steps * len(EPOCHS), given.steps)
        ]
    return found


if __name__ == "__main__":
    main()
