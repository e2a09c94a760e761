"""Sets that are read row after row while training: as large as the disk (or the hub), never whole in memory.

A stream cannot be permuted, so its rows pass through a window of ``shuffle_rows`` from which batches are drawn. What
batch n holds is still a function of (seed, n): a resumed run reads the stream again up to its place.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gecko_core.randomness import set_generator
from gecko_train.data.mixture import distinct
from gecko_train.data.rows import NoRowsError, TrainingRow

_KEPT = 4  # batches whose rows are kept for `rows`, and need no second reading


class StreamedSet:
    """A named set that is read through a function.

    Args:
        name: of the set.
        seed: of the shuffling.
        read: a fresh iterator over the rows; called again when it ends.
        rows: about how many there are; the set's size in the mixture.
        window: rows that are shuffled among each other.
    """

    def __init__(
        self, name: str, read: Callable[[], Iterator[TrainingRow]], rows: int, *, seed: int = 0, window: int = 16_384
    ):
        self.name, self.seed, self.window = name, seed, window
        self._read, self._rows = read, rows
        self._restart()

    def __len__(self) -> int:
        return self._rows

    @property
    def fingerprint(self) -> str:
        """Identity of the plan; the content of a stream is not checked."""
        return hashlib.sha256(f"stream {self.name} {self._rows} {self.seed} {self.window}".encode()).hexdigest()

    def batch(self, number: int, size: int) -> np.ndarray:
        """Row numbers of the ``number``-th batch since the start of training; ``rows`` then gives their rows.

        No query and no passage occurs twice. Batches are shorter only where the set has fewer than ``size`` rows
        without a repeat.

        Raises:
            DataError: the stream has no rows.
        """
        behind = self._next - number
        if 0 < behind <= len(self._recent):
            return np.array(list(self._recent[-behind]), dtype=np.int64)
        if behind > 0:
            self._restart()
        while self._next <= number:
            chosen = self._draw(size)
        return chosen

    def rows(self, numbers: Sequence[int] | np.ndarray) -> list[TrainingRow]:
        """The rows of one of the last few batches, by their numbers in the stream."""
        recent = {number: row for batch in self._recent for number, row in batch.items()}
        return [recent[int(number)] for number in numbers]

    def _restart(self) -> None:
        self._iterator = self._read()
        self._waiting: list[tuple[int, TrainingRow]] = []
        self._read_rows = self._next = 0
        self._pass_began = self._passes = 0
        self._recent: deque[dict[int, TrainingRow]] = deque(maxlen=_KEPT)

    def _draw(self, size: int) -> np.ndarray:
        generator = set_generator(self.seed, self.name, self._next)
        ended, wanted = self._passes, max(self.window, size)
        while True:
            self._fill(wanted)
            order = generator.permutation(len(self._waiting))
            ids = np.array([(row.query_id, row.positive_id) for _, row in self._waiting], dtype=np.int64)[order]
            kept = order[distinct(ids[:, 0], ids[:, 1], limit=size)]
            # A window full of copies: read on, up to the end of a pass that began with this batch. It is the set's own
            # end, since ``rows`` may be far from it.
            if len(kept) == size or self._passes - ended >= 2:
                break
            wanted = len(self._waiting) + size
        chosen = [self._waiting[index] for index in kept]
        taken = set(kept.tolist())
        self._waiting = [numbered for index, numbered in enumerate(self._waiting) if index not in taken]
        if len(kept) < size:
            self._waiting = []  # only copies of the batch's rows are left
        self._recent.append(dict(chosen))
        self._next += 1
        return np.array([number for number, _ in chosen], dtype=np.int64)

    def _fill(self, wanted: int) -> None:
        while len(self._waiting) < wanted:
            row = next(self._iterator, None)
            if row is None:
                if self._read_rows == self._pass_began:
                    raise NoRowsError(self.name)
                whole_set = self._read_rows - self._pass_began
                self._pass_began, self._iterator = self._read_rows, self._read()
                self._passes += 1
                if len(self._waiting) >= min(wanted, whole_set):
                    return  # a window larger than the set would mix passes
                continue
            self._waiting.append((self._read_rows, row))
            self._read_rows += 1
