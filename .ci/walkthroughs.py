"""The walk-throughs of docs/architecture.md, performed: each diff is applied to a copy of the code, each check is run.

    python .ci/walkthroughs.py              all of them
    python .ci/walkthroughs.py step judge   those whose heading names one of these words

A walk-through is a section `### Add a ...` with one or more ```diff blocks and one ```python block, the check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
SECONDS = 900


@dataclass(frozen=True)
class WalkThrough:
    """One section: its heading, the changes it shows, and the program that uses what was added."""

    title: str
    diffs: list[str]
    check: str


def walkthroughs(page: str) -> list[WalkThrough]:
    """The walk-throughs of a page, in order."""
    sections = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    return [
        WalkThrough(section.split("\n")[0], blocks(section, "diff"), "\n".join(blocks(section, "python")))
        for section in sections
        if section.startswith("Add a")
    ]


def blocks(section: str, language: str) -> list[str]:
    """Contents of a section's fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def perform(walkthrough: WalkThrough) -> str | None:
    """What goes wrong when the diffs are applied and the check is run; None if nothing does."""
    if not walkthrough.diffs or not walkthrough.check:
        return "it needs a diff block and a python block"
    with tempfile.TemporaryDirectory(prefix="walkthrough-") as scratch:
        shutil.copytree(ROOT / "recipes", Path(scratch) / "recipes")
        for package in sorted((ROOT / "packages").iterdir()):
            shutil.copytree(package / "src", Path(scratch) / "packages" / package.name / "src", symlinks=True)
        for diff in walkthrough.diffs:
            applied = subprocess.run(
                ["git", "apply", "--whitespace=nowarn", "-C1", "-"],
                input=diff, text=True, capture_output=True, cwd=scratch, check=False,
            )  # fmt: skip
            if applied.returncode:
                return f"the diff does not apply: {applied.stderr.strip()}"
        sources = sorted(str(path) for path in Path(scratch).glob("packages/*/src"))
        run = subprocess.run(
            [sys.executable, "-c", walkthrough.check],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sources), "OMP_NUM_THREADS": "1"},
            cwd=scratch, text=True, capture_output=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return None if run.returncode == 0 else f"the check fails:\n{run.stdout}{run.stderr}"


def main(words: list[str]) -> int:
    """Runs the walk-throughs; returns the exit code."""
    chosen = [
        walkthrough
        for walkthrough in walkthroughs(PAGE.read_text(encoding="utf-8"))
        if not words or any(word in walkthrough.title.lower() for word in words)
    ]
    if not chosen:
        print("docs/architecture.md: no such walk-through", file=sys.stderr)
        return 2
    failures = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # each check is a process of its own
        for walkthrough, problem in zip(chosen, pool.map(perform, chosen), strict=True):
            print(f"{walkthrough.title}: {'ok' if problem is None else problem}", flush=True)
            failures += problem is not None
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
