"""`gecko-fret build`: options to a build, Ctrl-C handling, and the closing screen."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gecko_core.errors import ConfigError
from gecko_core.io import format_seconds
from gecko_fret.build.cost import describe_cost
from gecko_fret.build.fingerprints import check_config
from gecko_fret.build.folder import Workspace
from gecko_fret.build.idle import idle_settings
from gecko_fret.build.pipeline import build_fret, read_corpus
from gecko_fret.build.run import Engine
from gecko_fret.build.summary import FretSummary
from gecko_fret.config import load_config

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The command line's options."""

    config: Path | None
    out: Path
    overrides: list[str]
    engine: str = "local"
    workers: int = 2
    force: bool = False
    dry_run: bool = False
    like: Path | None = None


class StopFlag:
    """Set by the first Ctrl-C; the second one ends the process at once, as does the first before there is any part."""

    def __init__(self) -> None:
        self.stopped = self._asked = False

    def __call__(self) -> bool:
        """Return whether the build should stop; a build asks before its first step and after every part."""
        self._asked = True
        return self.stopped

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle SIGINT.

        Raises:
            KeyboardInterrupt: it is the second one, or there is no part to finish: a server is asked what it can do.
        """
        if self.stopped or not self._asked:
            raise KeyboardInterrupt
        self.stopped = True
        print("\nfinishing the current part; Ctrl-C again ends at once", file=sys.stderr, flush=True)


def run_build(options: BuildOptions) -> int:
    """Run the build and print what came out.

    Returns:
        The exit code.

    Raises:
        GeckoError: whatever the user can mend.
    """
    config = Workspace(options.out).with_rules(load_config(options.config, options.overrides))
    check_config(config)
    engine = make_engine(options)
    Workspace(options.out).check_usable()
    corpus = read_corpus(config.corpus)
    plan = describe_cost(config, corpus, options.like)
    if options.dry_run:
        for line in idle_settings(config):
            print(line, file=sys.stderr)
        print(plan if options.like else f"{plan}\n--like FOLDER takes the rates of a finished build")
        return 0
    print(plan, file=sys.stderr, flush=True)
    flag = StopFlag()
    with ctrl_c(flag):
        summary = build_fret(
            config,
            options.out,
            corpus=corpus,
            progress=True,
            stop=flag,
            force=options.force,
            engine=engine,
            announce=announce,
        )
    if not summary.complete:
        print(f"stopped; everything so far is in {summary.path}. To go on: {' '.join(map(shlex.quote, _command()))}")
        return INTERRUPTED
    print(closing_screen(summary))
    return 0


def announce(text: str) -> None:
    """Show what a build says before its first part."""
    print(text, file=sys.stderr, flush=True)


def make_engine(options: BuildOptions) -> Engine | None:
    """The engine of ``--engine``, None for the local one.

    Raises:
        ConfigError: there is no such engine.
        ModelError: Ray is not installed.
    """
    if options.engine == "ray":
        from gecko_fret.build.ray import RayEngine

        return RayEngine(options.workers)
    if options.engine != "local":
        raise ConfigError(f"--engine {options.engine}: use local or ray")
    return None


def _command() -> list[str]:
    return ["gecko-fret", *(argument for argument in sys.argv[1:] if argument != "--force")]


@contextmanager
def ctrl_c(flag: StopFlag) -> Iterator[None]:
    """Let the first Ctrl-C set the flag."""
    previous = signal.signal(signal.SIGINT, flag.on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def closing_screen(summary: FretSummary) -> str:
    """What the command prints after a build."""
    counts, rejects = summary.counts, summary.rejects
    lost = ", ".join(f"{reason} {n}" for reasons in rejects.values() for reason, n in reasons.items())
    read, written = (
        sum(counters.get(name, 0) for counters in summary.tokens.values())
        for name in ("prompt_tokens", "generated_tokens")
    )
    return "\n".join(
        [
            f"{counts['rows']} rows from {counts['attempts']} attempts on {counts['passages']} passages "
            f"({counts['scored_pairs']} pairs scored)",
            f"rejected: {lost or 'nothing'}",
            f"{read} tokens read, {written} written, {format_seconds(sum(summary.seconds.values()))}",
            f"data    {summary.path}",
            f"report  {summary.path / 'report.html'}",
            "",
            "from gecko_fret import load_fret",
            f"rows = load_fret({str(summary.path)!r})",
            "answered = [row for row in rows if row.positive is not None]",
            "[(row.query, row.positive.text, [n.text for n in row.negatives]) for row in answered[:3]]",
        ]
    )
