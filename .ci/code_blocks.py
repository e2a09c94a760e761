"""Every block of code in the READMEs and the docs, executed.

    python .ci/code_blocks.py                    all pages
    python .ci/code_blocks.py tour README        those whose path has one of these words

A page is run from top to bottom in a folder of its own that has what its blocks name: texts, queries, a small judged
set, a model. ```python blocks are run as they stand, those between two commands in one process; of ```bash blocks every
command, made small by .ci/code_blocks.yaml, which also says what is not run, and why. ```yaml blocks are checked as
configurations or recipes. ```diff blocks and architecture.md are for walkthroughs.py; ```text and indented blocks are
pictures and formulas, in which a command is an error.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from gecko_core.io import parse_yaml, read_yaml

ROOT = Path(__file__).parents[1]
RULES = Path(__file__).with_suffix(".yaml")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
COMMAND = re.compile(r"^\s*(uv |pip |gecko-(embed|fret|train|eval) +\w|from gecko|import gecko)", re.MULTILINE)
SECONDS = 600
ENTRY_POINTS = {entry.name: entry for entry in entry_points(group="console_scripts") if entry.name.startswith("gecko-")}


@dataclass(frozen=True)
class Block:
    """One block: its language, its text and the line it begins on."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page, without those that walkthroughs.py runs."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("packages/*/README.md"))]
    return [*found, *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "architecture.md")]


def blocks(page: str) -> Iterator[Block]:
    """Fenced blocks of a page, in order.

    Raises:
        ValueError: a command stands in an indented block, which nothing runs.
    """
    rest = FENCE.sub(lambda found: "\n" * found[0].count("\n"), page)
    for found in INDENTED.finditer(rest):
        if COMMAND.search(found[0]):
            line = rest[: found.start()].count("\n") + 1
            raise ValueError(f"line {line}: a command in an indented block; fence it as ```bash or ```python")
    for found in FENCE.finditer(page):
        text = textwrap.dedent(found["text"])
        yield Block(found["language"], text, page[: found.start()].count("\n") + 1)


def commands(text: str) -> list[str]:
    """The commands of a shell block: comments dropped, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (line.strip() for line in joined.split("\n"))
    return [re.sub(r"\s+#.*$", "", line) for line in lines if line and not line.startswith("#")]


class Runner:
    """Runs one page's blocks.

    Args:
        folder: with what the blocks name; they are run in it.
        rules: the content of code_blocks.yaml.
    """

    def __init__(self, folder: Path, rules: dict[str, Any]):
        self.folder, self.rules = folder, rules
        self.used: set[str] = set()
        self.program = ""

    def run(self, page: list[Block]) -> list[str]:
        """What goes wrong, one line or more each; empty where all is well."""
        problems = []
        for block in page:
            if block.language == "python":
                if not self.left_out(block.text.split("\n")[0]):
                    self.program += f"\n# line {block.line}\n{block.text}"
            elif block.language == "bash":
                problems += self.run_python()  # what a command reads may come from the Python before it
                for command in commands(block.text):
                    if not self.left_out(command):
                        problems += self.execute(command, shlex.split(self.small(command)))
            elif block.language == "yaml":
                problems += self.check(block)
            elif block.language not in ("text", "diff", "mermaid"):
                problems.append(f"line {block.line}: a block of no language; say ```bash, python, yaml or text")
        return problems + self.run_python()

    def run_python(self) -> list[str]:
        """Run the Python that was collected; one problem if it fails."""
        program, self.program = self.program, ""
        return self.execute("python", ["python", program]) if program else []

    def left_out(self, line: str) -> bool:
        """Whether the rules say that this is not run."""
        for pattern in self.rules["not_run"]:
            if re.search(pattern, line):
                self.used.add(pattern)
                return True
        return False

    def small(self, command: str) -> str:
        """The command as it is run: this environment's, on small things."""
        command = command.removeprefix("uv run ")
        for pattern, value in self.rules["replace"].items():
            command, count = re.subn(pattern, value, command)
            if count:
                self.used.add(pattern)
        for pattern, arguments in self.rules["append"].items():
            if re.search(pattern, command):
                self.used.add(pattern)
                command = f"{command} {arguments}"
        return command

    def execute(self, shown: str, arguments: list[str]) -> list[str]:
        """Run it in a process of its own; one problem if it fails."""
        log = self.folder / ".output"
        with log.open("w", encoding="utf-8") as output:
            entry = ENTRY_POINTS.get(arguments[0])
            if entry is None and arguments[0] != "python":
                code = subprocess.run(
                    arguments, cwd=self.folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                    timeout=SECONDS, check=False,
                ).returncode  # fmt: skip
            else:
                process = multiprocessing.get_context("fork").Process(
                    target=_forked, args=(entry, arguments, self.folder, output.fileno())
                )
                process.start()
                process.join(SECONDS)
                if process.exitcode is None:
                    process.kill()
                code = process.exitcode if process.exitcode is not None else -9
        if code == 0:
            return []
        said = "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().split("\n")[-12:])
        return [f"{shown}: exit code {code} ({shlex.join(arguments)[:300]})\n{said}"]

    def check(self, block: Block) -> list[str]:
        """A part of a configuration of gecko-fret or of a recipe."""
        from gecko_core.errors import ConfigError
        from gecko_fret.config import parse_config
        from gecko_train.config import parse_recipe

        values = parse_yaml(block.text)
        try:
            (parse_recipe if "finetune" in values or "student" in values else parse_config)(values)
        except ConfigError as error:
            return [f"line {block.line}: {error}"]
        return []


def _forked(entry: EntryPoint | None, arguments: list[str], folder: Path, output: int) -> None:
    """In a copy of this process, which has imported already what takes long: a command, or a program."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    os.environ["GECKO_DATA_DIR"] = str(folder / "data")
    if entry is None:
        exec(compile(arguments[1], "page", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = arguments
        entry.load()()


def prepare(folder: Path, things: dict[str, str]) -> None:
    """Write what the pages name.

    Args:
        folder: where to.
        things: name to Python that writes it; ``folder`` is its path.
    """
    for name, code in things.items():
        exec(compile(code, name, "exec"), {"folder": folder / name})


def run_page(page: Path, rules: dict[str, Any]) -> tuple[list[str], set[str]]:
    """What goes wrong on a page, and which rules it made use of."""
    with tempfile.TemporaryDirectory(prefix="blocks-") as scratch:
        try:
            found = list(blocks(page.read_text(encoding="utf-8")))
        except ValueError as error:
            return [str(error)], set()
        if any(block.language in ("bash", "python") for block in found):
            prepare(Path(scratch), rules["things"])
        runner = Runner(Path(scratch), rules)
        return runner.run(found), runner.used


def main(words: list[str]) -> int:
    """Runs the pages, several at once; returns the exit code."""
    # One thread each: what OpenMP's other threads held would stay locked in a fork.
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    for name in ("torch", "transformers", "datasets", "gecko_train.run", "gecko_eval.mteb.run", "gecko_fret.build"):
        importlib.import_module(name)  # each block is run in a fork of this process
    rules = read_yaml(RULES)
    chosen = [page for page in pages() if not words or any(word in str(page.relative_to(ROOT)) for word in words)]
    used: set[str] = set()
    failures = 0
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        done = {page: pool.submit(run_page, page, rules) for page in chosen}
        for page, result in done.items():
            problems, rules_used = result.result()
            used |= rules_used
            print(f"{page.relative_to(ROOT)}: {'ok' if not problems else ''}", flush=True)
            for problem in problems:
                print(textwrap.indent(problem, "  "), flush=True)
            failures += bool(problems)
    if not words:
        for pattern in sorted(set(rules["not_run"]) | set(rules["replace"]) | set(rules["append"])):
            if pattern not in used:
                print(f"{RULES.name}: {pattern!r} is in no page; delete it")
                failures += 1
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
