"""Training rows, the common form of every data set, and the memory-mapped table that holds them.

A row is what the paper trains on: (task, query, positive, hard negatives). Whether both sides carry the query format
(symmetric) or the document side carries the title format (asymmetric) is a property of the row, set per data set.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gecko_core.errors import DataError
from gecko_core.text_identity import text_id
from gecko_train.data.ids import apart_by_label, have_common
from gecko_train.data.mapped import read_mapped, write_mapped

_DOCUMENT = pa.struct([("title", pa.string()), ("text", pa.large_string())])
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("query", pa.large_string()),
        ("positive", _DOCUMENT),
        ("negatives", pa.large_list(_DOCUMENT)),
        ("symmetric", pa.bool_()),
        ("query_id", pa.int64()),
        ("positive_id", pa.int64()),
        ("label", pa.string()),
        ("scores", pa.large_list(pa.float32())),
    ]
)
_DOCUMENTS = ("positive", "negatives")
_BATCH_ROWS = 65_536  # rows per Arrow record batch: small enough that one batch of a wide set is tens of megabytes


@dataclass(frozen=True, slots=True)
class Document:
    """A passage as a training row carries it: an optional title and a text."""

    text: str
    title: str | None = None

    @property
    def id(self) -> int:
        """Identity of its title and text."""
        return text_id(self.title, self.text)


def without_passages(documents: Iterable[Document], passages: Collection[Document]) -> tuple[Document, ...]:
    """The documents that are none of some passages: another text, or the same under another title.

    A document without a title is the passage of its text, whatever that passage's title.
    """
    documents = tuple(documents)
    if not documents or not passages:
        return documents
    ids = {passage.id for passage in passages}
    texts = {text_id(passage.text) for passage in passages}
    untitled = {text_id(passage.text) for passage in passages if not passage.title}
    return tuple(
        document
        for document in documents
        if document.id not in ids and text_id(document.text) not in (untitled if document.title else texts)
    )


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One training example, or texts of which no answer is known.

    Attributes:
        query: None for a passage alone (``negatives`` holds it), from which only terms with a teacher model learn.
        positive: the answer; None where nobody knows it: the contrastive loss passes the row over.
        negatives: hard negatives, then further candidates; without a positive, candidates of which some may be answers.
        symmetric: whether both sides are written in the query format.
        query_id: identity of the query; 0: that of its text. A query and a positive of one id are one text.
        positive_id: identity of the positive; 0: that of its text, or one of the row's own.
        label: class of a row from a classification set; rows of one label are not negatives of each other.
        scores: the teacher's logits of the positive and of each negative, in that order (one per document), NaN for a
            document that nobody judged.

    Raises:
        DataError: the number of scores is wrong, or the row holds no text.
    """

    task: str
    query: str | None
    positive: Document | None
    negatives: tuple[Document, ...] = ()
    symmetric: bool = False
    query_id: int = 0
    positive_id: int = 0
    label: str | None = None
    scores: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.query is None and not self.documents:
            raise DataError("a row without a query and without a document; leave it out")
        if not self.query_id:
            own = self.documents[0].id if self.query is None else text_id(self.query)
            object.__setattr__(self, "query_id", own)
        if not self.positive_id:
            # Batches hold no passage twice; a row without an answer must not look like another one.
            own = text_id("without an answer:", str(self.query_id)) if self.positive is None else self.positive.id
            object.__setattr__(self, "positive_id", own)
        if self.scores is not None and len(self.scores) != len(self.documents):
            raise DataError(
                f"row {str(self.query)[:40]!r}: {len(self.scores)} scores for "
                f"{len(self.documents) - len(self.negatives)} positive and {len(self.negatives)} negatives; give one "
                "score per document, the positive first"
            )

    @property
    def documents(self) -> tuple[Document, ...]:
        """The positive, where it is known, and the negatives."""
        return self.negatives if self.positive is None else (self.positive, *self.negatives)

    @property
    def answered(self) -> bool:
        """Whether query and answer are there, as the contrastive loss needs them."""
        return self.query is not None and self.positive is not None

    def is_negative(self, document: Document) -> bool:
        """Whether a document is another text than query and positive; of a row without an answer, True.

        Titles tell passages apart where both have one and the row's format shows them.
        """
        if self.positive is None:
            return True
        if document.id == self.positive_id:
            return False
        text, titled = text_id(document.text), document.title and self.positive.title and not self.symmetric
        if not titled and text == text_id(self.positive.text):
            return False
        return self.query is None or text != text_id(self.query)


class NoRowsError(DataError):
    """A training set without a row.

    Args:
        name: of the set.
        where: what it was read from, where that is known.
        cure: what may be the reason, and helps.
    """

    def __init__(self, name: str, where: str | None = None, cure: str = "a set needs at least one"):
        super().__init__(f"training set {name}: no rows{'' if where is None else f' in {where}'}; {cure}")


class RowSet:
    """A named, immutable set of training rows in an Arrow table, in memory or memory-mapped from a file.

    A file is read once when it is opened, to see that it is whole; after that ids are there as columns, and texts are
    read only for the rows of a batch.
    """

    def __init__(self, name: str, table: pa.Table, mapped: mmap.mmap | None = None):
        if table.num_rows == 0:
            raise NoRowsError(name)
        self.name = name
        self._table = table
        self._mapped = mapped  # the file behind the table
        self._batches = table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])
        self.query_ids: np.ndarray = table.column("query_id").to_numpy()

    @classmethod
    def from_rows(cls, name: str, rows: Iterable[TrainingRow]) -> RowSet:
        """Collect rows in memory.

        Raises:
            DataError: there are none.
        """
        batches = list(_record_batches(rows))
        return cls(name, pa.Table.from_batches(batches, schema=SCHEMA))

    @classmethod
    def open(cls, path: str | Path, name: str | None = None) -> RowSet:
        """Memory-map a set that :meth:`write` wrote.

        Raises:
            DataError: the file is not such a set, or it is damaged.
        """
        table, mapped = read_mapped(path, SCHEMA)
        return cls(name or Path(path).stem, table, mapped)

    @staticmethod
    def write(path: str | Path, rows: Iterable[TrainingRow]) -> int:
        """Stream rows into an Arrow file without holding them; the file appears whole.

        Returns:
            The number of rows.

        Raises:
            DataError: the file cannot be written.
        """
        return write_mapped(path, SCHEMA, _record_batches(rows))

    def first(self, count: int | None) -> RowSet:
        """The set of the first ``count`` rows (None: all), without reading them."""
        return self if count is None else RowSet(self.name, self._table.slice(0, count), self._mapped)

    def without_queries(self, text_ids: Collection[int]) -> RowSet:
        """The set without the rows whose query's text has one of these ids, without copying the others.

        The texts are read: what rows have as ``query_id`` may be another identity.

        Raises:
            DataError: no row is left.
        """
        if not text_ids:
            return self
        queries = (query for batch in self._batches for query in batch.column("query").to_pylist())
        return self._without(query is not None and text_id(query) in text_ids for query in queries)

    def without_texts(self, text_ids: Collection[int]) -> RowSet:
        """The set without the rows of which a query or a document has a text with one of these ids.

        Raises:
            DataError: no row is left.
        """
        if not text_ids:
            return self
        rows = (row for batch in self._batches for row in batch.select(["query", *_DOCUMENTS]).to_pylist())
        return self._without(any(text_id(text) in text_ids for text in _texts_of(row)) for row in rows)

    def _without(self, left_out_rows: Iterable[bool]) -> RowSet:
        left_out = np.flatnonzero(np.array(list(left_out_rows)))
        if not len(left_out):
            return self
        starts, ends = [0, *(left_out + 1).tolist()], [*left_out.tolist(), len(self)]
        pieces = [self._table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]
        return RowSet(self.name, pa.concat_tables(pieces), self._mapped)

    @cached_property
    def positive_ids(self) -> np.ndarray:
        """Ids of the positives, (N,) int64, as batches keep them apart from each other and from queries.

        The loss masks rows of one label among each other, so a text of one label alone may be a query and a passage in
        one batch: as a passage its id is another one, below 0.
        """
        positives: np.ndarray = self._table.column("positive_id").to_numpy()
        if not self.has_labels():
            return positives
        labels = self._table.column("label").combine_chunks().dictionary_encode().indices
        return apart_by_label(self.query_ids, positives, labels.fill_null(-1).to_numpy(zero_copy_only=False))

    def __len__(self) -> int:
        return int(self._ends[-1])

    # ---- what terms of the loss can learn from in it, see `gecko_train.loss.base.Holdings` ----

    def has_answers(self) -> bool:
        """Whether a row has a query and its answer."""
        return bool(self._answered().any())

    def has_other_answers(self) -> bool:
        """Whether two rows differ in query and answer, so that one's answer is a negative of the other."""
        answered = self._answered()
        queries, positives = self.query_ids[answered], self.positive_ids[answered]
        if not ((queries != queries[:1]).any() and (positives != positives[:1]).any()):
            return False
        labels = self._table.column("label")
        return labels.null_count > 0 or len(labels.unique()) > 1  # rows of one label are no negatives of each other

    def has_hard_negatives(self) -> bool:
        """Whether an answered row has a negative that is not its answer."""
        return any(
            any(row.is_negative(negative) for negative in row.negatives)
            for row in self._rows_with("negatives", least=1)
            if row.answered
        )

    def has_scores(self) -> bool:
        """Whether two documents of one row are judged."""
        return any(
            row.scores is not None and sum(not math.isnan(score) for score in row.scores) > 1
            for row in self._rows_with("scores", least=2)
        )

    def has_labels(self) -> bool:
        """Whether a row belongs to a class."""
        labels = self._table.column("label")
        return bool(labels.null_count < len(labels))

    def _answered(self) -> np.ndarray:
        """(N,) bool."""
        columns = [self._table.column(name) for name in ("query", "positive")]
        known = np.ones(len(self), dtype=bool)
        for column in columns:
            if column.null_count:
                known &= column.is_valid().to_numpy()
        return known

    def _rows_with(self, column: str, least: int) -> Iterator[TrainingRow]:
        """The rows in whose list there is enough; texts are read for these alone, and only as far as they are asked."""
        for batch in self._batches:
            lengths = pc.fill_null(pc.list_value_length(batch.column(column)), 0).to_numpy()
            for place in np.flatnonzero(lengths >= least).tolist():
                yield _to_row(batch.slice(place, 1).to_pylist()[0])
        self._release_pages()

    def __iter__(self) -> Iterator[TrainingRow]:
        for batch in self._batches:
            yield from (_to_row(row) for row in batch.to_pylist())

    def rows(self, indices: Sequence[int] | np.ndarray) -> list[TrainingRow]:
        """The rows at ``indices``, in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        which = np.searchsorted(self._ends, indices, side="right")
        rows: dict[int, TrainingRow] = {}
        for number in np.unique(which):
            positions = np.flatnonzero(which == number)
            start = self._ends[number] - self._batches[number].num_rows
            taken = self._batches[number].take(pa.array(indices[positions] - start))
            for position, row in zip(positions, taken.to_pylist(), strict=True):
                rows[int(position)] = _to_row(row)
        self._release_pages()
        return [rows[position] for position in range(len(indices))]

    def _release_pages(self) -> None:
        """Give the file's pages back: every row read maps its neighbours' pages too, 64 KB at a time."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    @property
    def fingerprint(self) -> str:
        """Identity of the content as the plan sees it (name, length, ids); a resumed run needs the same."""
        digest = hashlib.sha256(f"{self.name}\0{len(self)}".encode())
        digest.update(np.ascontiguousarray(self.query_ids).view(np.uint8).data)
        digest.update(np.ascontiguousarray(self._table.column("positive_id").to_numpy()).view(np.uint8).data)
        if self._texts_on_both_sides:  # else the plan is what it was before such rows were kept apart
            digest.update(b"queries apart from passages")
        return digest.hexdigest()

    @cached_property
    def _texts_on_both_sides(self) -> bool:
        """Whether a row's query is another row's passage, beyond rows that share their query or their passage."""
        other = self.query_ids != self.positive_ids
        return have_common(self.query_ids[other], self.positive_ids[other])

    @property
    def content(self) -> str:
        """Identity of everything in the set, to the last character and score."""
        digest = hashlib.sha256()
        for batch in self._batches:
            digest.update(batch.serialize())
            self._release_pages()
        return digest.hexdigest()


def _texts_of(row: dict[str, Any]) -> Iterator[str]:
    """The texts of a row of the table, titles apart."""
    if row["query"] is not None:
        yield row["query"]
    for document in (row["positive"], *(row["negatives"] or ())):
        if document is not None and document["text"] is not None:
            yield document["text"]


def _record_batches(rows: Iterable[TrainingRow]) -> Iterator[pa.RecordBatch]:
    waiting: list[dict[str, Any]] = []
    for row in rows:
        waiting.append(_to_dict(row))
        if len(waiting) == _BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(waiting, schema=SCHEMA)
            waiting = []
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, schema=SCHEMA)


def _to_dict(row: TrainingRow) -> dict[str, Any]:
    return {
        "task": row.task,
        "query": row.query,
        "positive": None if row.positive is None else {"title": row.positive.title, "text": row.positive.text},
        "negatives": [{"title": negative.title, "text": negative.text} for negative in row.negatives],
        "symmetric": row.symmetric,
        "query_id": row.query_id,
        "positive_id": row.positive_id,
        "label": row.label,
        "scores": None if row.scores is None else list(row.scores),
    }


def _to_row(row: dict[str, Any]) -> TrainingRow:
    return TrainingRow(
        task=row["task"],
        query=row["query"],
        positive=None if row["positive"] is None else Document(row["positive"]["text"], row["positive"]["title"]),
        negatives=tuple(Document(negative["text"], negative["title"]) for negative in row["negatives"]),
        symmetric=row["symmetric"],
        query_id=row["query_id"],
        positive_id=row["positive_id"],
        label=row["label"],
        scores=None if row["scores"] is None else tuple(row["scores"]),
    )
