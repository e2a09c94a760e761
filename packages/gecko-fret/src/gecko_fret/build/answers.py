"""What a long part shows of itself: how many answers the LLMs have given since its step began."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gecko_core.io import Progress


class SharedProgress:
    """A progress that several threads report to, one at a time.

    Args:
        progress: what is reported to.
    """

    def __init__(self, progress: Progress):
        self._progress, self._turn = progress, threading.Lock()

    def start(self, stage: str, total: int | None, done: int = 0, unit: str = "") -> None:
        """See ``Progress``."""
        with self._turn:
            self._progress.start(stage, total, done, unit)

    def advance(self, count: int = 1, note: str = "") -> None:
        """See ``Progress``."""
        with self._turn:
            # Units alone are told as before there were notes here: what a caller gives may not take them.
            self._progress.advance(*([count, note] if note else [count]))

    def finish(self) -> None:
        """See ``Progress``."""
        with self._turn:
            self._progress.finish()


@contextmanager
def answers_told(progress: SharedProgress, answered: Callable[[], int], every: float = 5.0) -> Iterator[None]:
    """Within it, note the number of answers since it began beside the units, whenever there are more.

    Args:
        progress: where.
        answered: the number of answers until now.
        every: seconds between two looks.
    """
    over, before = threading.Event(), answered()

    def look() -> None:
        last = before
        while not over.wait(every):
            now = answered()
            if now > last:
                progress.advance(0, f"{now - before:,} answers")
                last = now

    thread = threading.Thread(target=look, name="gecko-fret-answers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
