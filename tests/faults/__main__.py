"""All faults of all scenarios, as the table of docs/reliability.md.

python -m tests.faults                 every place
python -m tests.faults --most 5        five of a kind
python -m tests.faults --write         put the table into docs/reliability.md
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.harness import DONE, in_child
from tests.faults.scenarios import SCENARIOS, make_backbone
from tests.faults.suite import Suite, tallies

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: printed by python -m tests.faults -->", "<!-- end of faults -->"


def main() -> int:
    """Run, print the table, and end with 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, help="faults of a kind and scenario; default: all")
    parser.add_argument("--only", help="scenarios whose name holds this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    began, rows, wrong = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        root = Path(name)
        assert in_child(lambda: make_backbone(root / "backbone"))[0] == DONE
        for number, scenario in enumerate(SCENARIOS):
            if options.only and options.only not in scenario.name:
                continue
            folder = root / f"scenario-{number}"
            folder.mkdir()
            (folder / "backbone").symlink_to(root / "backbone")
            suite = Suite(scenario, folder, options.most)
            counts = {}
            for kind, tally in tallies(suite):
                counts[kind] = f"{tally.faults}" + (f" ({len(tally.wrong)} wrong)" if tally.wrong else "")
                wrong += tally.wrong
                print(f"{scenario.name}, {kind}: {counts[kind]}", file=sys.stderr, flush=True)
            rows.append((scenario.name, str(suite.operations), *counts.values()))
    head = (
        "work",
        "file operations",
        "killed",
        "full disk",
        "damaged, interrupted",
        "damaged, finished",
        "two processes",
    )
    lines = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]
    minutes = (time.monotonic() - began) / 60
    when = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.system()}"
    places = "every place" if options.most is None else f"at most {options.most} places of a kind"
    lines.append(f"\n{when}: {places}, {minutes:.0f} minutes; {len(wrong)} ended wrong.")
    print("\n".join([*lines, *wrong]))
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}" + rest.split(END)[1], encoding="utf-8")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
