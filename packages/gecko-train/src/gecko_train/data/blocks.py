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
from gecko_train.data.rows import Document, NoRowsError, TrainingRow
from gecko_train.data.scores import likely_answers

_SAMPLE = 256  # blocks that are planned beforehand, to know how many one pass over the queries takes


@dataclass(frozen=True)
class PlannedBlock:
    """One block: indices of its queries and of its documents in the set."""

    queries: np.ndarray  # (Q,) int64
    documents: np.ndarray  # (N,) int64


@dataclass(frozen=True)
class BlockLayout:
    """What a block holds besides its texts: ids, each query's own documents, and the targets of all pairs."""

    query_ids: np.ndarray  # (Q,) int64
    rows: np.ndarray  # (Q, M) int64, each query's own among the N documents; column 0 is the positive
    document_ids: np.ndarray  # (Q, M) int64
    scores: np.ndarray  # (Q, M) float32, NaN where nobody judged and where a document is repeated
    answered: np.ndarray  # (Q,) bool, whether column 0 is a known answer of the query
    targets: np.ndarray  # (Q, N) float32 teacher logits, NaN where nobody judged
    likely: np.ndarray | None  # (Q, N) bool, likely answers; None where the set was not asked for them


class BlockSet:
    """A named set of queries with candidates, cut into blocks.

    A block grows from a few random queries (``starts``): a query brings its answer, its hard negatives, its best
    candidates and some from the rest of its ranking; next to it comes the query that has most candidates among the
    documents that are there. When the documents are enough, the block is filled up with queries that have several
    candidates among them. Within a pass every query is drawn once; in blocks that are not full it may come again.

    Args:
        name: of the set.
        rows: the queries, each with all its candidates as documents: the answer (where it is known), hard negatives,
            then the others. The answer once more stands for a hard negative that is missing.
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
        self._queries: list[tuple[str, str]] = []  # task, text
        self._read(rows)
        order = np.argsort(self._candidates, kind="stable")
        askers = np.repeat(np.arange(len(self)), np.diff(self._offsets))[order]
        ends = np.searchsorted(self._candidates[order], np.arange(1, len(self._documents)))
        self._askers = np.split(askers, ends)  # per document the queries that have it as a candidate
        self._restart()
        self.batches = self._count_batches()
        self._restart()

    def _read(self, rows: Iterable[TrainingRow]) -> None:
        places: dict[int, int] = {}  # by id
        known: dict[Document, int] = {}  # the same by text, which is faster than an id
        lengths: list[int] = []
        candidates: list[int] = []
        scores: list[float] = []
        heads: list[tuple[int, bool, int]] = []  # id, whether the first candidate is the answer, hard negatives
        for row in rows:
            if row.query is None or not row.documents:
                raise DataError(f"training set {self.name}: a row without a query or candidates fits in no block")
            own: dict[int, float] = {}
            hard = 0
            pairs = zip(row.documents, row.scores or [np.nan] * len(row.documents), strict=True)
            for place, (document, score) in enumerate(pairs):
                if document not in known:
                    known[document] = places.setdefault(document.id, len(places))
                    if len(places) > len(self._documents):
                        self._documents.append(document)
                own.setdefault(known[document], score)
                hard = len(own) - 1 if place <= self._hard else hard
            self._queries.append((row.task, row.query))
            heads.append((row.query_id, row.positive is not None, hard))
            lengths.append(len(own))
            candidates.extend(own)
            scores.extend(own.values())
        if not lengths:
            raise NoRowsError(self.name)
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._candidates = np.array(candidates, dtype=np.int64)
        self._scores = np.array(scores, dtype=np.float32)
        self._query_ids = np.array([identifier for identifier, _, _ in heads], dtype=np.int64)
        self._answered = np.array([answered for _, answered, _ in heads])
        self._own_hard = np.array([hard * answered for _, answered, hard in heads], dtype=np.int64)
        self._document_ids = np.array(list(places), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._queries)

    # ---- what terms of the loss can learn from in it, see `gecko_train.loss.base.Holdings` ----

    def has_answers(self) -> bool:
        """Whether the answer of a query is known."""
        return bool(self._answered.any())

    def has_other_answers(self) -> bool:
        """Whether two queries have different answers."""
        queries, answers = self._query_ids[self._answered], self._candidates[self._offsets[:-1]][self._answered]
        return bool((queries != queries[:1]).any() and (answers != answers[:1]).any())

    def has_hard_negatives(self) -> bool:
        """Whether a query with an answer brings a hard negative into its block."""
        return bool(self._own_hard.any())

    def has_scores(self) -> bool:
        """Whether two candidates of one query are judged."""
        return bool((np.add.reduceat((~np.isnan(self._scores)).astype(np.int64), self._offsets[:-1]) > 1).any())

    def has_labels(self) -> bool:
        """Whether a row belongs to a class: none does."""
        return False

    @property
    def fingerprint(self) -> str:
        """Identity of the plan: queries, candidates, scores and sizes."""
        digest = hashlib.sha256(f"blocks {self.name} {self.seed} {self._hard} {self.options}".encode())
        for task, query in self._queries:
            digest.update(f"{task}\0{query}\0".encode("utf-8", "surrogatepass"))
        parts: list[np.ndarray] = [
            self._answered, self._offsets, self._candidates, self._scores, self._document_ids,
        ]  # fmt: skip
        all_there = self._answered * np.minimum(self._hard, np.diff(self._offsets) - 1)
        if (self._own_hard != all_there).any():  # else the plan is what it was before they were counted
            parts.append(self._own_hard)
        for numbers in parts:
            digest.update(np.ascontiguousarray(numbers).view(np.uint8).data)
        return digest.hexdigest()

    @property
    def content(self) -> str:
        """Identity of everything in the set: the plan's, and the documents to the last character."""
        digest = hashlib.sha256(self.fingerprint.encode())
        for document in self._documents:
            digest.update(f"{document.title}\0{document.text}\0".encode("utf-8", "surrogatepass"))
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

    def queries(self, indices: Sequence[int] | np.ndarray | None = None) -> list[tuple[str, str]]:
        """(task, text) of the queries at ``indices``, in that order; None: all."""
        return list(self._queries) if indices is None else [self._queries[int(index)] for index in indices]

    def layout(self, queries: np.ndarray, documents: np.ndarray, columns: int) -> BlockLayout:
        """Lay out a block.

        A query whose answer is not among the documents counts as one without a known answer, for this block.

        Args:
            queries: (Q,) indices.
            documents: (N,) indices, different ones.
            columns: M, documents of each query's own; one with fewer repeats its first.
        """
        targets = np.full((len(queries), len(documents)), np.nan, dtype=np.float32)
        likely = None if self._share is None else np.zeros(targets.shape, dtype=bool)
        rows = np.zeros((len(queries), columns), dtype=np.int64)
        order = np.argsort(documents)
        answered = np.zeros(len(queries), dtype=bool)
        for number, query in enumerate(queries.tolist()):
            own = self._of(query)
            candidates, scores = self._candidates[own], self._scores[own]
            found = np.searchsorted(documents[order], candidates).clip(max=len(documents) - 1)
            columns_of = np.where(documents[order[found]] == candidates, order[found], -1)  # -1: not in the block
            there = columns_of >= 0
            targets[number, columns_of[there]] = scores[there]
            if likely is not None and self._share is not None:
                likely[number, columns_of[there]] = likely_answers(scores, self._share, self._log)[there]
            answered[number] = self._answered[query] and there[0]
            hard = (int(self._own_hard[query]), self._hard) if answered[number] else (0, 0)
            places = _own_columns(columns_of.tolist(), *hard)
            rows[number] = (places + places[:1] * columns)[:columns]
        scores = np.take_along_axis(targets, rows, axis=1)
        for row, of_row in zip(rows, scores, strict=True):
            repeated = np.ones(columns, dtype=bool)
            repeated[np.unique(row, return_index=True)[1]] = False
            of_row[repeated] = np.nan  # a document is judged once
        document_ids = self._document_ids[documents]
        return BlockLayout(self._query_ids[queries], rows, document_ids[rows], scores, answered, targets, likely)

    def _of(self, query: int) -> slice:
        return slice(int(self._offsets[query]), int(self._offsets[query + 1]))

    def _row(self, query: int) -> TrainingRow:
        task, text = self._queries[query]
        own = self._of(query)
        documents = tuple(self._documents[place] for place in self._candidates[own])
        scores, answered = tuple(self._scores[own].tolist()), bool(self._answered[query])
        return TrainingRow(
            task, text, documents[0] if answered else None, documents[answered:],
            query_id=int(self._query_ids[query]), scores=scores,
        )  # fmt: skip

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
        first = int(self._answered[query] + self._own_hard[query])
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


def _own_columns(places: list[int], hard_negatives: int, columns: int) -> list[int]:
    """Where a row's documents are in its block: the first, its hard negatives, the others that are there.

    The first stands in for a hard negative that is not there, since by its id it is no negative.

    Args:
        places: of all documents of the row; -1 for one that is not there.
        hard_negatives: how many of them, after the first, are hard negatives.
        columns: places after the first that nothing else may take; 0 where the first is not there.
    """
    here = [place for place in places if place >= 0]
    if not columns:
        return here or [0]
    hard = [place if place >= 0 else here[0] for place in places[1 : 1 + hard_negatives]]
    hard += [here[0]] * (columns - len(hard))
    return [here[0], *hard, *(place for place in places[1 + hard_negatives :] if place >= 0)]
