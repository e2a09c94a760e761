"""Progress of long work: bars on a terminal, plain lines in a log, both with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

from gecko_core.bars import on_terminal
from gecko_core.errors import ConfigError


class Progress(Protocol):
    """What long work reports to: stages, one after the other."""

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """A stage begins, of which ``done`` of ``total`` units (None: unknown) were done before."""
        ...

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done, 0 for a note alone; ``note`` is shown beside them (a loss, a speed)."""
        ...

    def finish(self) -> None:
        """The current stage is over; does nothing if there is none."""
        ...


class Silent:
    """Prints nothing."""

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """See ``Progress``."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """See ``Progress``."""

    def finish(self) -> None:
        """See ``Progress``."""


class Lines:
    """One line when a stage begins, one every ``every`` seconds at most, one when it ends.

    Args:
        stream: where lines go; stderr by default.
        every: seconds between two lines.
        write: takes each line instead of the stream.
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0, write: Callable[[str], Any] | None = None):
        self._stream, self._every, self._write = stream, every, write
        self._stage, self._unit, self._note = "", "", ""
        self._total: int | None = None
        self._done = self._here = 0
        self._began = self._said = 0.0

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """See ``Progress``."""
        self._stage, self._unit, self._total, self._done, self._here, self._note = stage, unit, total, done, 0, ""
        self._began = self._said = time.monotonic()
        if done:
            self._print(f"{done}{self._of} {unit} done before")
        elif total is not None:
            self._print(f"{total} {unit}")

    def advance(self, count: int = 1, note: str = "") -> None:
        """See ``Progress``."""
        self._done += count
        self._here += count
        self._note = f"{note}, " if note else ""
        now = time.monotonic()
        if now - self._said < self._every or not (self._here or note) or self._done == self._total:
            return
        self._said = now
        left = ""
        if self._total is not None and self._here:
            left = f", {format_seconds((now - self._began) / self._here * (self._total - self._done))} left"
        self._print(f"{self._note}{self._done}{self._of} {self._unit}{left}")

    def finish(self) -> None:
        """See ``Progress``."""
        if self._here:
            spent = format_seconds(time.monotonic() - self._began)
            whole = self._total is None or self._done >= self._total
            ended = f"done, {self._here} {self._unit}" if whole else f"stopped, {self._done}{self._of} {self._unit}"
            self._print(f"{self._note}{ended} in {spent}")
            self._here = 0  # said once

    @property
    def _of(self) -> str:
        return "" if self._total is None else f" of {self._total}"

    def _print(self, text: str) -> None:
        line = f"{self._stage:<9} {text}"
        if self._write is not None:
            self._write(line)
        else:
            print(line, file=self._stream or sys.stderr, flush=True)


class Bars:
    """A rich progress bar per stage.

    Args:
        console: a rich console; stderr by default.
    """

    def __init__(self, console: Any = None):
        from rich import progress as rich
        from rich.console import Console

        self._bars = rich.Progress(
            rich.TextColumn("{task.description:<9}", markup=False),
            rich.BarColumn(),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[unit]}", markup=False),
            rich.TextColumn("{task.fields[note]}", markup=False),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            console=console or Console(stderr=True),
        )
        self._task: Any = None

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """See ``Progress``."""
        self._bars.start()
        self._task = self._bars.add_task(stage, total=total, completed=done, unit=unit, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        """See ``Progress``."""
        self._bars.update(self._task, advance=count, note=note)

    def finish(self) -> None:
        """See ``Progress``."""
        self._bars.stop()


def make_progress(wanted: Progress | bool | None, console: Any = None, *, every: float = 10.0) -> Progress:
    """Return what long work reports to.

    Args:
        wanted: True for bars on a terminal and lines elsewhere, False or None for nothing, or the object to use.
        console: a rich console to draw on instead of stderr; its ``is_terminal`` decides between bars and lines.
        every: seconds between two lines.

    Returns:
        A :class:`Progress`.

    Raises:
        ConfigError: ``wanted`` is something else.
    """
    if wanted is None or wanted is False:
        return Silent()
    if wanted is not True:
        return _checked(wanted)
    if console is not None:
        if console.is_terminal:
            return Bars(console)
        return Lines(every=every, write=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
    return Bars() if on_terminal(sys.stderr) else Lines(every=every)


def _checked(wanted: Progress) -> Progress:
    if isinstance(wanted, type) or not all(hasattr(wanted, name) for name in ("start", "advance", "finish")):
        raise ConfigError(f"progress must be True, False or an object as gecko_core.io.Progress says, not {wanted!r}")
    return wanted


def format_seconds(seconds: float) -> str:
    """Format a duration: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
