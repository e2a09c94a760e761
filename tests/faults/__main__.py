"""All faults of all scenarios, as the table of docs/reliability.md.

python -m tests.faults                 every place
python -m tests.faults --most 5        five of a kind
python -m tests.faults --write         put the table into docs/reliability.md; with --only, the rows of these scenarios
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.harness import DONE, in_child
from tests.faults.scenarios import SCENARIOS, make_backbone
from tests.faults.suite import Suite, tallies

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: printed by python -m tests.faults -->", "<!-- end of faults -->"
HEAD = (
    *("work", "file operations", "killed", "full disk", "damaged, interrupted", "damaged, finished"),
    *("two processes", "ended wrong", "date", "minutes", "Python"),
)


def main() -> int:
    """Run, print the table, and end with 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="faults of a kind and scenario; default: all")
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    if options.write and options.most is not None:
        parser.error("--write takes every place; leave --most out")
    import torch

    torch.set_num_threads(1)
    rows: dict[str, tuple[str, ...]] = {}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        assert in_child(lambda: make_backbone(root / "backbone"))[0] == DONE
        for number, scenario in enumerate(SCENARIOS):
            if options.only and options.only not in scenario.name:
                continue
            began = time.monotonic()
            folder = root / f"scenario-{number}"
            folder.mkdir()
            (folder / "backbone").symlink_to(root / "backbone")
            suite = Suite(scenario, folder, options.most)
            counts, ended = {}, 0
            for kind, tally in tallies(suite):
                counts[kind] = f"{tally.faults}"
                ended += len(tally.wrong)
                wrong += tally.wrong
                print(f"{scenario.name}, {kind}: {counts[kind]}", file=sys.stderr, flush=True)
            made = f"{datetime.now(UTC):%Y-%m-%d}", f"{(time.monotonic() - began) / 60:.0f}", platform.python_version()
            rows[scenario.name] = (scenario.name, str(suite.operations), *counts.values(), str(ended), *made)
    print("\n".join([*table(rows.values()), *wrong]))
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(BEGIN)
        kept, after = rest.split(END)
        rows = {row[0]: row for row in cells(kept)} | rows
        ordered = [rows[scenario.name] for scenario in SCENARIOS if scenario.name in rows]
        shown = "\n".join(table(ordered))
        PAGE.write_text(f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}", encoding="utf-8")
    return int(bool(wrong))


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return ["| " + " | ".join(row) + " |" for row in (HEAD, ("---",) * len(HEAD), *rows)]


def cells(text: str) -> list[tuple[str, ...]]:
    """The rows of a table in Markdown, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


if __name__ == "__main__":
    sys.exit(main())
