"""The mixture: which rows of which set make up each global batch.

A batch comes from one set, holds no text in two rows (nor as one's query and another's passage), and is a pure function
of (seed, epoch, step): every rank plans the same *global* batch and takes its slice, so the plan is the same at any
world size and a resumed run needs no saved sampler state. (Planning per rank, as multi-data-set samplers usually do,
puts different sets into one step.)
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gecko_core.errors import ConfigError
from gecko_core.numbers import is_whole
from gecko_core.randomness import Stream, stream_generator

_LARGEST_ALPHA = 10  # beyond it size ** alpha leaves the range of floats
_WINDOW = 4  # batches' worth of postponed rows that are tried again for each new batch


class Planned(Protocol):
    """What planning needs of a set: its name, its size and the ids that must not repeat within a batch.

    A text has one id, be it a query or a passage: where one row's query is another's passage, it would be a negative of
    itself.

    A streamed set has no ids to look at beforehand, and one of blocks draws rows by the documents that they share:
    these plan their own batches (`gecko_train.data.streams`, `gecko_train.data.blocks`).
    """

    name: str
    query_ids: np.ndarray
    positive_ids: np.ndarray

    def __len__(self) -> int:
        """Number of rows."""
        ...


@dataclass(frozen=True)
class PlannedBatch:
    """One global batch: rows ``indices`` of set number ``set_index``, and in a block the documents that they share."""

    epoch: int
    step: int
    set_index: int
    indices: np.ndarray  # (B,) int64
    documents: np.ndarray | None = None  # (N,) int64, documents that the rows share where the batch is a block

    def slice(self, rank: int, world_size: int) -> np.ndarray:
        """The rows of one rank; concatenated over the ranks they are ``indices`` again."""
        return np.array_split(self.indices, world_size)[rank]


class Mixture:
    """Plan of global batches over several sets.

    Args:
        sets: the training sets.
        batch_size: rows per global batch, except in blocks. A set with fewer distinct rows gives smaller batches.
        seed: everything is derived from it.
        weights: share of the batches per set name; without it ``size ** alpha``.
        alpha: 1 is proportional to size, 0 is uniform over sets.
        steps_per_epoch: batches in an epoch; by default the number that shows every row about once.

    Raises:
        ConfigError: no sets, two sets of one name, unknown or negative weights.
    """

    def __init__(
        self,
        sets: Sequence[Any],  # Planned, streamed or in blocks
        *,
        batch_size: int,
        seed: int = 0,
        weights: Mapping[str, float] | None = None,
        alpha: float = 1.0,
        steps_per_epoch: int | None = None,
    ):
        names = [row_set.name for row_set in sets]
        if not sets:
            raise ConfigError("the mixture has no sets: name at least one under `sets`")
        if len(set(names)) < len(names):
            raise ConfigError(f"the mixture names a set twice ({', '.join(names)}): give each its own `name`")
        if not is_whole(batch_size, 1):
            raise ConfigError(f"batch_size is {batch_size!r}: give a whole number, at least 1")
        if steps_per_epoch is not None and not is_whole(steps_per_epoch, 1):
            raise ConfigError(f"steps_per_epoch is {steps_per_epoch!r}: give a whole number, at least 1")
        if not is_whole(seed, 0):
            raise ConfigError(f"seed is {seed!r}: give a whole number, at least 0")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= _LARGEST_ALPHA:
            raise ConfigError(f"alpha is {alpha!r}: give a number from 0 to {_LARGEST_ALPHA}")
        self.sets = list(sets)
        self.batch_size = batch_size
        self.seed = seed
        self.weights = _shares(names, [len(row_set) for row_set in sets], weights, alpha)
        # A set of blocks knows how many show every query about once.
        whole = np.array([getattr(row_set, "batches", max(1, len(row_set) // batch_size)) for row_set in sets])
        self.steps_per_epoch = int(whole.sum()) if steps_per_epoch is None else steps_per_epoch
        # Shares by size over a natural epoch need no rounding: every set is shown once, whole.
        self._counts = whole if weights is None and alpha == 1 and steps_per_epoch is None else None
        self._epoch = -1
        self._schedule = np.empty(0, dtype=np.int64)
        self._planned: dict[int, list[np.ndarray]] = {}

    def batch(self, epoch: int, step: int) -> PlannedBatch:
        """The global batch of ``step`` (0-based, below ``steps_per_epoch``) in ``epoch``."""
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"step {step} of an epoch of {self.steps_per_epoch}")
        if epoch != self._epoch:
            self._schedule = self.schedule(epoch)
            self._planned = {}
            self._epoch = epoch
        chosen = int(self._schedule[step])
        turn = int((self._schedule[:step] == chosen).sum())
        stream: Any = self.sets[chosen]
        if hasattr(stream, "batch") or hasattr(stream, "block"):
            number = turn + sum(int((self.schedule(earlier) == chosen).sum()) for earlier in range(epoch))
            if hasattr(stream, "batch"):
                return PlannedBatch(epoch, step, chosen, stream.batch(number, self.batch_size))
            block = stream.block(number)
            return PlannedBatch(epoch, step, chosen, block.queries, block.documents)
        if chosen not in self._planned:  # a set is planned when its first batch is asked for
            wanted = int((self._schedule == chosen).sum())
            self._planned[chosen] = self._plan(chosen, epoch, wanted)
        return PlannedBatch(epoch, step, chosen, self._planned[chosen][turn])

    def at(self, global_step: int) -> PlannedBatch:
        """The batch of the ``global_step``-th optimizer step since the start of training."""
        return self.batch(*divmod(global_step, self.steps_per_epoch))

    def schedule(self, epoch: int) -> np.ndarray:
        """Set number of every step of ``epoch``: exact shares (largest remainder), in random order. (L,) int64."""
        counts = self._rounded(epoch) if self._counts is None else self._counts
        generator = stream_generator(self.seed, Stream.MIXTURE_SCHEDULE, epoch)
        return generator.permutation(np.repeat(np.arange(len(self.sets)), counts))

    def _rounded(self, epoch: int) -> np.ndarray:
        exact = self.weights * self.steps_per_epoch
        counts = np.floor(exact).astype(np.int64)
        # Shares that are no whole numbers: which sets get the remaining steps changes from epoch to epoch, so that a
        # set whose share is below one step is not left out forever.
        missing = self.steps_per_epoch - int(counts.sum())
        if missing:
            remainders = exact - counts
            if epoch == 0:
                extra = np.argsort(-remainders, kind="stable")[:missing]
            else:
                generator = stream_generator(self.seed, Stream.MIXTURE_REMAINDER, epoch)
                extra = generator.choice(len(remainders), size=missing, replace=False, p=remainders / remainders.sum())
            counts[extra] += 1
        return counts

    @property
    def fingerprint(self) -> str:
        """Identity of the plan: equal exactly when every batch of every epoch is equal."""
        digest = hashlib.sha256(f"{self.seed} {self.batch_size} {self.steps_per_epoch}".encode())
        for row_set, weight in zip(self.sets, self.weights, strict=True):
            digest.update(f"{row_set.name} {weight:.12g} {getattr(row_set, 'fingerprint', len(row_set))}".encode())
        return digest.hexdigest()

    @property
    def content(self) -> str:
        """Identity of all texts, labels and scores of the sets but for streamed ones, which are not read beforehand."""
        return hashlib.sha256("".join(getattr(row_set, "content", "") for row_set in self.sets).encode()).hexdigest()

    def small_batches(self) -> list[tuple[str, int, int]]:
        """The sets that cannot fill a batch: name, most rows of a batch, rows of the set.

        No two rows of a batch share a text. Of streamed sets the first batch says it; blocks are not looked at, nor are
        sets of weight 0.
        """
        found = []
        for row_set, weight in zip(self.sets, self.weights, strict=True):
            if not weight or hasattr(row_set, "block"):
                continue
            if hasattr(row_set, "batch"):
                rows = len(row_set.batch(0, self.batch_size))
                if rows < self.batch_size:
                    found.append((row_set.name, rows, len(row_set)))
                continue
            # As a rule the first few rows are enough to fill one; else all are looked at.
            for count in (min(8 * self.batch_size, len(row_set)), len(row_set)):
                ids = row_set.query_ids[:count], row_set.positive_ids[:count]
                rows = len(distinct(*ids, limit=self.batch_size))
                if rows == self.batch_size:
                    break
            else:
                found.append((row_set.name, rows, len(row_set)))
        return found

    def _plan(self, chosen: int, epoch: int, wanted: int) -> list[np.ndarray]:
        row_set = self.sets[chosen]

        def passes() -> Iterator[np.ndarray]:
            for number in itertools.count():
                generator = stream_generator(self.seed, Stream.MIXTURE_ROWS, epoch, chosen, number)
                yield generator.permutation(len(row_set))

        return plan_distinct_batches(row_set.query_ids, row_set.positive_ids, passes(), self.batch_size, wanted)


def plan_distinct_batches(
    query_ids: np.ndarray,  # (N,) int64
    positive_ids: np.ndarray,  # (N,) int64
    passes: Iterator[np.ndarray],  # permutations of range(N), without end
    batch_size: int,
    wanted: int,
) -> list[np.ndarray]:
    """Divide passes over the rows into ``wanted`` batches in which no two rows share an id.

    A row that would repeat one is postponed and tried first in the next batches, so within a pass no row is lost or
    used twice. Batches are shorter only where the set has fewer than ``batch_size`` rows without a repeat; then further
    passes are looked at meanwhile, and a row waits once however many of them it is in.
    """
    total = len(query_ids)
    fresh = next(passes)
    waiting = np.empty(0, dtype=np.int64)
    batches: list[np.ndarray] = []
    while len(batches) < wanted:
        batch = np.empty(0, dtype=np.int64)
        looked_at, considered = 0, waiting[: _WINDOW * batch_size]
        waiting = waiting[len(considered) :]
        postponed = []
        while True:
            pool = np.concatenate([batch, considered])
            kept = distinct(query_ids[pool], positive_ids[pool], limit=batch_size)
            batch = pool[kept]
            postponed.append(np.delete(pool, kept))
            looked_at += len(considered)
            if len(batch) == batch_size or looked_at >= 2 * total:
                break
            if len(fresh) == 0:
                fresh = next(passes)
            considered, fresh = fresh[:batch_size], fresh[batch_size:]
        waiting = np.concatenate([*postponed, waiting])
        if len(batch) < batch_size:
            # Everything was looked at and no more rows fit. Copies from further passes must not add up.
            waiting = waiting[np.sort(np.unique(waiting, return_index=True)[1])]
        batches.append(batch)
    return batches


def distinct(
    query_ids: np.ndarray,  # (N,)
    positive_ids: np.ndarray,  # (N,)
    limit: int,
) -> np.ndarray:
    """Find the indices of at most ``limit`` rows, in order: no two share an id, and no further row could be added.

    An id that is one row's query and another row's passage is shared, too. A row may have one id on both sides.
    """
    ids = np.stack([query_ids, positive_ids], axis=1)
    one_text = ids[:, 0] == ids[:, 1]
    kept = np.empty(0, dtype=np.int64)
    left = np.arange(len(query_ids))
    while len(left) and len(kept) < limit:
        new = np.zeros((len(left), 2), dtype=bool)
        new.ravel()[np.unique(ids[left], return_index=True)[1]] = True
        # Never empty: the first of what is left is the first of both its ids.
        chosen = left[new[:, 0] & (new[:, 1] | one_text[left])]
        kept = np.sort(np.concatenate([kept, chosen]))
        left = left[~np.isin(ids[left], ids[chosen]).any(1)]
    return kept[:limit]


def _shares(
    names: Sequence[str], sizes: Sequence[int], weights: Mapping[str, float] | None, alpha: float
) -> np.ndarray:
    if weights is None:
        raw = np.array([float(size) ** alpha for size in sizes])
    else:
        unknown = sorted(set(weights) - set(names))
        if unknown:
            raise ConfigError(f"weights: no set is called {unknown[0]!r}; the sets are {', '.join(names)}")
        missing = [name for name in names if name not in weights]
        if missing:
            raise ConfigError(f"weights: none for set {missing[0]!r}; give every set a weight, or none of them")
        raw = np.array([float(weights[name]) for name in names])
        with np.errstate(over="ignore"):
            total = raw.sum()
        if (raw < 0).any() or not 0 < total < np.inf:
            raise ConfigError(
                f"weights: {dict(weights)}; none must be negative, one at least must be above 0 and their sum finite"
            )
    return raw / raw.sum()
