"""Progress of long stages: bars on a terminal, plain lines in a log, both with the time that is left."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """What a build tells of itself. Stages come one after the other."""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        """A stage begins, of which `done` of `total` units were there already."""
        ...

    def advance(self, count: int) -> None:
        """`count` more units are done and on disk."""
        ...

    def finish(self) -> None:
        """The stage in hand is over."""
        ...


class Silent:
    """Says nothing."""

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        return

    def advance(self, count: int) -> None:
        return

    def finish(self) -> None:
        return


class Lines:
    """One line when a stage begins, at most one every `every` seconds, one when it ends."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0):
        self._stream, self._every = stream or sys.stderr, every
        self._stage, self._unit, self._total, self._done, self._here = "", "", 0, 0, 0
        self._began = self._said = 0.0

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self._stage, self._unit, self._total, self._done, self._here = stage, unit, total, done, 0
        self._began = self._said = time.monotonic()
        self._say(f"{done} of {total} {unit} done before" if done else f"{total} {unit}")

    def advance(self, count: int) -> None:
        self._done += count
        self._here += count
        now = time.monotonic()
        if now - self._said >= self._every and self._done < self._total:
            self._said = now
            left = (now - self._began) / self._here * (self._total - self._done)
            self._say(f"{self._done} of {self._total} {self._unit}, {format_seconds(left)} left")

    def finish(self) -> None:
        if self._here:
            spent = time.monotonic() - self._began
            self._say(f"done, {self._here} {self._unit} in {format_seconds(spent)}")
            self._here = 0  # said once

    def _say(self, text: str) -> None:
        print(f"{self._stage:<9} {text}", file=self._stream, flush=True)


class Bars:
    """A rich progress bar per stage."""

    def __init__(self, console: Any = None):
        from rich import progress as rich

        self._bars = rich.Progress(
            rich.TextColumn("{task.description:<9}"),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[unit]}"),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            console=console,
        )
        self._task: Any = None

    def start(self, stage: str, total: int, done: int, unit: str) -> None:
        self._bars.start()
        self._task = self._bars.add_task(stage, total=total, completed=done, unit=unit)

    def advance(self, count: int) -> None:
        self._bars.advance(self._task, count)

    def finish(self) -> None:
        self._bars.stop()


def make_progress(wanted: Progress | bool | None) -> Progress:
    """True: bars on a terminal, else lines; False or None: silent; or a progress object of the caller's own."""
    if wanted is None or wanted is False:
        return Silent()
    if wanted is True:
        return Bars() if sys.stderr.isatty() else Lines()
    return wanted


def format_seconds(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
