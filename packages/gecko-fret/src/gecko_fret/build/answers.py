"""What a long part shows of itself: how many answers the LLMs have given since its step began."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gecko_core.io import Progress, format_seconds


class SharedProgress:
    """A progress that several threads report to, one at a time.

    Args:
        progress: what is reported to.
    """

    def __init__(self, progress: Progress):
        self._progress, self._turn = progress, threading.Lock()
        self.units = 0  # done since the stage began

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """See ``Progress``."""
        with self._turn:
            self.units = 0
            self._progress.start(stage, total, done, unit)

    def advance(self, count: int = 1, note: str = "") -> None:
        """See ``Progress``."""
        with self._turn:
            self.units += count
            # Units alone are told as before there were notes here: what a caller gives may not take them.
            self._progress.advance(*([count, note] if note else [count]))

    def finish(self) -> None:
        """See ``Progress``."""
        with self._turn:
            self._progress.finish()


@contextmanager
def answers_told(
    progress: SharedProgress, answered: Callable[[], int], expected: int = 0, every: float = 5.0
) -> Iterator[None]:
    """Within it, note the number of answers since it began beside the units, whenever there are more.

    Args:
        progress: where.
        answered: the number of answers until now.
        expected: about how many there will be; 0: unknown. Until the first units are done, the time left is told by it.
        every: seconds between two looks.
    """
    over, before = threading.Event(), answered()

    def look() -> None:
        first: tuple[float, int] | None = None  # from then on: answers that an earlier run has left take no time
        last = 0
        while not over.wait(every):
            now, when = answered() - before, time.monotonic()
            first = first or (when, now)
            if now > last:
                rate = (now - first[1]) / max(when - first[0], 1e-9)
                progress.advance(0, _note(now, expected, 0.0 if progress.units else rate))
                last = now

    thread = threading.Thread(target=look, name="gecko-fret-answers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _note(answers: int, expected: int, rate: float) -> str:
    """Answers until now, and where they have a rate, per second, the time that the others will take at it."""
    if answers >= expected:
        return f"{answers:,} answers"
    left = f", {format_seconds((expected - answers) / rate)} left" if rate else ""
    return f"{answers:,} of about {expected:,} answers{left}"
