"""Blocks: batches of neighbouring queries and the documents that they share.

The same tokens through the student then carry many times the supervision: Q queries and N documents give up to Q x N
targets, where lists of M documents a query give Q x M targets for Q x (1 + M) texts. Block n is a function of (seed,
n): a resumed run plans the blocks again up to its place.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.errors import DataError
from gecko_core.randomness import set_generator
from gecko_train.config import BlocksConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.scores import likely_answers

_SAMPLE = 256  # blocks that are planned beforehand, to know how many one pass over the queries takes


@dataclass(frozen=True)
class PlannedBlock:
    """One block: indices of its queries and of its documents in the set."""

    queries: np.ndarray  # (Q,) int64
    documents: np.ndarray  # (N,) int64


class BlockSet:
    """A named set of queries with candidates, cut into blocks.

    A block grows from a few random queries (``starts``): a query brings its answer, its hard negatives, its best
    candidates and some from the rest of its ranking; next to it comes the query that has most candidates among the
    documents that are there. When the documents are enough, the block is filled up with queries that have several
    candidates among them. Within a pass every query is drawn once; in blocks that are not full it may come again.

    Args:
        name: of the set.
        rows: the queries, each with all its candidates as documents: the answer (where it is known), hard negatives,
            then the others.
        options: sizes.
        seed: of the order.
        hard_negatives: how many each answered query brings into its block.
        share: candidates above this share of a query's best one are likely answers; None: not asked.
        log_scores: whether scores are logarithms, whose shares are those of their exponentials.

    Attributes:
        batches: blocks in which every query comes about once.

    Raises:
        DataError: no rows, or one without a query or without candidates.
    """

    def __init__(
        self,
        name: str,
        rows: Iterable[TrainingRow],
        options: BlocksConfig,
        *,
        seed: int = 0,
        hard_negatives: int = 0,
        share: float | None = None,
        log_scores: bool = True,
    ):
        self.name, self.options, self.seed = name, options, seed
        self._hard, self._share, self._log = hard_negatives, share, log_scores
        self._documents: list[Document] = []
        self._queries: list[tuple[str, str, bool]] = []  # task, query, whether the first candidate is its answer
        self._read(rows)
        order = np.argsort(self._candidates, kind="stable")
        askers = np.repeat(np.arange(len(self)), np.diff(self._offsets))[order]
        ends = np.searchsorted(self._candidates[order], np.arange(1, len(self._documents)))
        self._askers = np.split(askers, ends)  # per document the queries that have it as a candidate
        self._restart()
        self.batches = self._count_batches()
        self._restart()

    def _read(self, rows: Iterable[TrainingRow]) -> None:
        places: dict[int, int] = {}
        lengths: list[int] = []
        candidates: list[int] = []
        scores: list[float] = []
        for row in rows:
            if row.query is None or not row.documents:
                raise DataError(f"training set {self.name}: a row without a query or candidates fits in no block")
            own: dict[int, float] = {}
            for document, score in zip(row.documents, row.scores or [np.nan] * len(row.documents), strict=True):
                if document.id not in places:
                    places[document.id] = len(self._documents)
                    self._documents.append(document)
                own.setdefault(places[document.id], score)
            self._queries.append((row.task, row.query, row.positive is not None))
            lengths.append(len(own))
            candidates.extend(own)
            scores.extend(own.values())
        if not lengths:
            raise DataError(f"training set {self.name}: no rows; a set needs at least one")
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._candidates = np.array(candidates, dtype=np.int64)
        self._scores = np.array(scores, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._queries)

    @property
    def fingerprint(self) -> str:
        """Identity of the plan: queries, candidates, scores and sizes."""
        digest = hashlib.sha256(f"blocks {self.name} {self.seed} {self._hard} {self.options}".encode())
        for task, query, answered in self._queries:
            digest.update(f"{task}\0{query}\0{answered}\0".encode("utf-8", "surrogatepass"))
        for numbers in (self._offsets, self._candidates, self._scores):
            digest.update(np.ascontiguousarray(numbers).view(np.uint8).data)
        digest.update(np.array([document.id for document in self._documents]).view(np.uint8).data)
        return digest.hexdigest()

    def block(self, number: int) -> PlannedBlock:
        """The ``number``-th block since the start of training."""
        if number < self._next:
            self._restart()
        while self._next <= number:
            block = self._draw()
        return block

    def rows(self, indices: Sequence[int] | np.ndarray) -> list[TrainingRow]:
        """The queries at ``indices``, in that order, each with all its candidates and their scores."""
        return [self._row(int(index)) for index in indices]

    def documents(self, indices: Sequence[int] | np.ndarray | None = None) -> list[Document]:
        """The documents at ``indices``, in that order; None: all."""
        return list(self._documents) if indices is None else [self._documents[int(index)] for index in indices]

    def likely(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray | None:
        """Which documents of a block are likely answers of which queries, (Q, N) bool; None: not asked for."""
        if self._share is None:
            return None
        columns = {int(document): number for number, document in enumerate(documents)}
        likely = np.zeros((len(queries), len(documents)), dtype=bool)
        for number, query in enumerate(queries.tolist()):
            own = self._of(query)
            above = likely_answers(self._scores[own], self._share, self._log)
            for document in self._candidates[own][above].tolist():
                if document in columns:
                    likely[number, columns[document]] = True
        return likely

    def _of(self, query: int) -> slice:
        return slice(int(self._offsets[query]), int(self._offsets[query + 1]))

    def _row(self, query: int) -> TrainingRow:
        task, text, answered = self._queries[query]
        own = self._of(query)
        documents = tuple(self._documents[place] for place in self._candidates[own])
        scores = tuple(self._scores[own].tolist())
        return TrainingRow(
            task, text, documents[0] if answered else None, documents[1:] if answered else documents, scores=scores
        )

    # ---- planning ----

    def _restart(self) -> None:
        self._next, self._pass = 0, -1
        self._begin_pass()

    def _begin_pass(self) -> None:
        self._pass += 1
        self._order = set_generator(self.seed, self.name, 0, self._pass).permutation(len(self))
        self._rank = np.argsort(self._order)
        self._place = 0
        self._drawn = np.zeros(len(self), dtype=bool)

    def _count_batches(self) -> int:
        while self._pass == 0 and self._next < _SAMPLE:
            self._draw()
        return self._next if self._pass else math.ceil(len(self) * self._next / int(self._drawn.sum()))

    def _draw(self) -> PlannedBlock:
        options = self.options
        generator = set_generator(self.seed, self.name, 1, self._next)
        queries: dict[int, None] = {}
        documents: dict[int, None] = {}
        while len(documents) < options.documents and len(queries) < options.queries:
            begin = self._fresh(queries)
            if begin is None:
                break
            self._grow(begin, queries, documents, generator)
        self._fill(queries, documents)
        self._next += 1
        return PlannedBlock(np.array(list(queries), dtype=np.int64), np.array(list(documents), dtype=np.int64))

    def _fresh(self, queries: dict[int, None]) -> int | None:
        """The next query of the pass; at its end another pass begins. None where all are in the block."""
        for _ in range(2):
            for place in range(self._place, len(self._order)):
                query = int(self._order[place])
                if not self._drawn[query] and query not in queries:
                    self._place = place
                    return query
            self._begin_pass()
        return None

    def _grow(
        self, begin: int, queries: dict[int, None], documents: dict[int, None], generator: np.random.Generator
    ) -> None:
        """Take a query and its neighbours until one start's share of the block is used."""
        options = self.options
        most_documents = min(options.documents, len(documents) + math.ceil(options.documents / options.starts))
        most_queries = min(options.queries, len(queries) + math.ceil(options.queries / options.starts))
        near: Counter[int] = Counter()
        query: int | None = begin
        while query is not None and len(documents) < most_documents and len(queries) < most_queries:
            queries[query] = None
            self._drawn[query] = True
            near.pop(query, None)
            new = [document for document in self._picks(query, generator) if document not in documents]
            for document in new[: options.documents - len(documents)]:
                documents[document] = None
                near.update(asker for asker in self._askers[document].tolist() if not self._drawn[asker])
            for asker in [asker for asker in near if asker in queries]:  # of an earlier pass
                del near[asker]
            query = min(near, key=lambda asker: (-near[asker], self._rank[asker]), default=None)

    def _picks(self, query: int, generator: np.random.Generator) -> list[int]:
        """Answer and hard negatives, the best others, and some drawn from the rest of the ranking."""
        own = self._of(query)
        candidates, scores = self._candidates[own], self._scores[own]
        first = 1 + self._hard if self._queries[query][2] else 0
        ranked = candidates[first:][np.argsort(-np.nan_to_num(scores[first:], nan=-np.inf), kind="stable")]
        best, rest = ranked[: self.options.best], ranked[self.options.best :]
        drawn = generator.permutation(len(rest))[: self.options.others]
        return [*candidates[:first].tolist(), *best.tolist(), *rest[drawn].tolist()]

    def _fill(self, queries: dict[int, None], documents: dict[int, None]) -> None:
        room = self.options.queries - len(queries)
        if room <= 0:
            return
        shared = Counter(asker for document in documents for asker in self._askers[document].tolist())
        fitting = [q for q, count in shared.items() if count >= self.options.shared and q not in queries]
        fitting.sort(key=lambda q: (bool(self._drawn[q]), -shared[q], int(self._rank[q])))
        for query in fitting[:room]:
            queries[query] = None
            self._drawn[query] = True
