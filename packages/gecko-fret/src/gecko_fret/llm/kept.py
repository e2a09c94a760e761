"""Scores of a part in the making, kept batch by batch: whoever makes it again goes on after the last whole batch.

A part of some hundred queries takes a small machine an hour, and a kill would lose it. Batches depend on nothing but
the requests (``TransformersLLM``), so that one whose tokens are those of a kept batch has its scores, to the bit.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import AppendedLines, is_special

#: Of one continuation: the sum of its tokens' log-probabilities, and the labels' probabilities.
Values = tuple[float, tuple[float, ...]]


class KeptScores:
    """The batches of one part on disk: a line each, a checksum and then key and scores as JSON.

    A line that was cut off is none. Where nothing can be written, nothing is kept: what the part itself is written to
    will say so.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, list[Values]] = {}
        self._file: AppendedLines | None = None
        self._fails = False
        with suppress(OSError):
            if path.is_file() and not is_special(path):
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                    self._read(line)

    def get(self, key: str) -> list[Values] | None:
        """The scores of a batch; None where they are not known."""
        return self._known.get(key)

    def put(self, key: str, scores: Sequence[Values]) -> None:
        """Keep the scores of a batch."""
        if self._fails:
            return
        text = json.dumps([key, scores])
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = AppendedLines(self._path)
                self._file.write("")  # ends a line that was cut off
            self._file.write(f"{zlib.crc32(text.encode()):08x} {text}")
        except (DataError, OSError):
            self._fails = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read(self, line: str) -> None:
        checksum, _, text = line.partition(" ")
        if checksum != f"{zlib.crc32(text.encode()):08x}":
            return
        with suppress(ValueError, TypeError, RecursionError):
            key, scores = json.loads(text)
            self._known[str(key)] = [(float(total), tuple(map(float, labels))) for total, labels in scores]


_here: ContextVar[KeptScores | None] = ContextVar("kept_scores", default=None)


@contextmanager
def scores_kept(path: Path) -> Iterator[None]:
    """Within it, keep what this thread's LLM has scored, and take what is kept; the file goes when all went well.

    Args:
        path: the file.
    """
    kept = KeptScores(path)
    token = _here.set(kept)
    try:
        yield
    finally:
        _here.reset(token)
        kept.close()
    with suppress(OSError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()  # fails while there are others


def scored_once(batch: Any, compute: Callable[[], Sequence[Values]]) -> Sequence[Values]:
    """The scores of a batch: those that are kept, or else computed and kept.

    Args:
        batch: all that decides them, as a value whose ``repr`` tells batches apart.
        compute: computes them.
    """
    kept = _here.get()
    if kept is None:
        return compute()
    key = sha256(repr(batch).encode("utf-8", "surrogatepass")).hexdigest()
    known = kept.get(key)
    if known is None:
        known = [(float(total), tuple(labels)) for total, labels in compute()]
        kept.put(key, known)
    return known
