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
from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import Engine, FretSummary, build, read_corpus
from gecko_fret.config import load_config

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the command line says."""

    config: Path | None
    out: Path
    overrides: list[str]
    engine: str = "local"
    workers: int = 2
    force: bool = False
    dry_run: bool = False
    like: Path | None = None


class StopFlag:
    """Set by the first Ctrl-C; the second one ends the process at once."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self) -> bool:
        return self.stopped

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        print("\nfinishing the part in hand; Ctrl-C again ends at once", file=sys.stderr, flush=True)


def run_build(options: BuildOptions) -> int:
    """Runs the build and prints what came out; returns the exit code. Raises `GeckoError`."""
    config = load_config(options.config, options.overrides)
    engine = make_engine(options)
    if not options.dry_run:
        Workspace(options.out).check_usable()
    corpus = read_corpus(config.corpus)
    plan = describe_cost(config, corpus, options.like)
    if options.dry_run:
        print(plan)
        return 0
    print(plan, file=sys.stderr, flush=True)
    flag = StopFlag()
    with _ctrl_c(flag):
        summary = build(
            config, options.out, corpus=corpus, progress=True, stop=flag, force=options.force, engine=engine
        )
    if not summary.complete:
        print(f"stopped; everything so far is in {summary.path}. To go on: {' '.join(map(shlex.quote, _command()))}")
        return INTERRUPTED
    print(closing_screen(summary))
    return 0


def make_engine(options: BuildOptions) -> Engine | None:
    """The engine of --engine, None for the local one. Raises `ConfigError`, `ModelError`."""
    if options.engine == "ray":
        from gecko_fret.build.ray import RayEngine

        return RayEngine(options.workers)
    if options.engine != "local":
        raise ConfigError(f"--engine {options.engine}: use local or ray")
    return None


def _command() -> list[str]:
    return ["gecko-fret", *(argument for argument in sys.argv[1:] if argument != "--force")]


@contextmanager
def _ctrl_c(flag: StopFlag) -> Iterator[None]:
    previous = signal.signal(signal.SIGINT, flag.on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def closing_screen(summary: FretSummary) -> str:
    """What a build says at its end."""
    counts, rejects = summary.counts, summary.rejects
    lost = ", ".join(f"{reason} {n}" for reasons in rejects.values() for reason, n in reasons.items())
    tokens = summary.tokens["write"].get("prompt_tokens", 0) + summary.tokens["score"].get("prompt_tokens", 0)
    written = summary.tokens["write"].get("generated_tokens", 0)
    return "\n".join(
        [
            f"{counts['rows']} rows from {counts['attempts']} attempts on {counts['passages']} passages "
            f"({counts['scored_pairs']} pairs scored)",
            f"rejected: {lost or 'nothing'}",
            f"{tokens} tokens read, {written} written, {format_seconds(sum(summary.seconds.values()))}",
            f"data    {summary.path}",
            f"report  {summary.path / 'report.html'}",
            "",
            "from gecko_fret import load_fret",
            f"rows = load_fret({str(summary.path)!r})",
            "rows[0].query, rows[0].positive.text, rows[0].negatives[0].text",
        ]
    )
