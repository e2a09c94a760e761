"""Passages, and the corpora that hold them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from gecko_core.errors import DataError
from gecko_core.text_identity import text_key
from gecko_fret.corpus.splitting import count_words
from gecko_fret.sentences import split_sentences

SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("title", pa.large_string()),
        ("text", pa.large_string()),
        ("source", pa.large_string()),
    ]
)
_ROWS_PER_CHUNK = 16384


@dataclass(frozen=True, slots=True)
class Passage:
    """One unit of retrieval.

    Attributes:
        id: unique within a corpus.
        title: None where there is none.
        text: the passage itself.
        source: where it comes from, for stratified sampling of seeds.
    """

    id: str
    title: str | None
    text: str
    source: str | None = None

    @property
    def full_text(self) -> str:
        """Title and text as one string, the way a reader sees them."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Dropped:
    """A passage that was read but not kept, or a file that was not read.

    Attributes:
        id: of the passage, or the name of the file or folder.
        reason: ``duplicate``, ``near_duplicate``, ``language`` or ``hidden``.
        detail: the reason in words.
        text: of the passage.
    """

    id: str
    reason: str
    detail: str
    text: str


_FEW_TITLES = 10  # as titles of a corpus that can be queries


class Corpus(Sequence[Passage]):
    """An ordered set of passages with unique ids, held as an Arrow table (about the size of its text in memory).

    Args:
        passages: the passages in order.
        name: shown in reports and messages.
        dropped: what the reader left out and why.

    Raises:
        DataError: two passages have the same id.
    """

    def __init__(self, passages: Iterable[Passage], name: str = "corpus", dropped: Sequence[Dropped] = ()):
        self._set_table(_to_table(passages), name, dropped)

    @classmethod
    def from_table(cls, table: pa.Table, name: str = "corpus", dropped: Sequence[Dropped] = ()) -> Corpus:
        """Make a corpus of an Arrow table with the columns of ``SCHEMA``, which may be memory-mapped.

        Raises:
            DataError: two passages have the same id.
        """
        corpus = cls.__new__(cls)
        corpus._set_table(table.select(SCHEMA.names), name, dropped)
        return corpus

    def _set_table(self, table: pa.Table, name: str, dropped: Sequence[Dropped]) -> None:
        self.table, self.name, self.dropped = table, name, tuple(dropped)
        if pc.count_distinct(table["id"]).as_py() != len(table):
            _raise_repeated_id(table["id"].to_pylist(), name)

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | Sequence[Passage]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"passage {index} of {len(self)}")
        row = index % len(self)
        return Passage(*(self.table[column][row].as_py() for column in SCHEMA.names))

    def __iter__(self) -> Iterator[Passage]:
        for batch in self.table.to_batches(max_chunksize=_ROWS_PER_CHUNK):
            for row in zip(*(batch.column(name).to_pylist() for name in SCHEMA.names), strict=True):
                yield Passage(*row)

    def __repr__(self) -> str:
        return f"Corpus({self.name!r}, {len(self)} passages)"

    @property
    def ids(self) -> list[str]:
        """The ids in order."""
        return self.table["id"].to_pylist()

    @property
    def texts(self) -> list[str]:
        """The texts in order."""
        return self.table["text"].to_pylist()

    @property
    def titles(self) -> list[str | None]:
        """The titles in order, None where there is none."""
        return self.table["title"].to_pylist()

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {identifier: row for row, identifier in enumerate(self.ids)}

    def row(self, identifier: str) -> int:
        """Position of the passage with this id.

        Raises:
            KeyError: there is none.
        """
        return self._rows[identifier]

    def __contains__(self, value: object) -> bool:
        identifier = value.id if isinstance(value, Passage) else value
        return identifier in self._rows

    def get(self, identifier: str) -> Passage:
        """The passage with this id.

        Raises:
            KeyError: there is none.
        """
        return self[self.row(identifier)]

    @cached_property
    def hash(self) -> str:
        """sha256 over ids, titles, texts and sources in order: two corpora with one hash are the same data."""
        digest = hashlib.sha256()
        for passage in self:
            for value in (passage.id, passage.title, passage.text, passage.source):
                raw = b"\xff" if value is None else value.encode()  # 0xff never occurs in UTF-8
                digest.update(len(raw).to_bytes(8, "little"))
                digest.update(raw)
        return digest.hexdigest()

    def subset(self, ids: Iterable[str]) -> Corpus:
        """The passages with these ids, in the order of this corpus."""
        rows = sorted({self.row(identifier) for identifier in ids})
        return Corpus.from_table(self.table.take(pa.array(rows, pa.int64())), self.name)

    def without(self, ids: Iterable[str]) -> Corpus:
        """All passages except those with these ids."""
        left_out = set(ids)
        keep = [row for row, identifier in enumerate(self.ids) if identifier not in left_out]
        return Corpus.from_table(self.table.take(pa.array(keep, pa.int64())), self.name)

    def own_titles(self) -> set[str]:
        """The titles that one passage alone has: others, such as a document's above all its parts, find no passage."""
        repeats = Counter(text_key(title) for title in self.titles if title)
        return {title for title in self.titles if title and repeats[text_key(title)] == 1}

    def pairs(self, min_words: int = 3) -> list[tuple[str, Passage]]:
        """(query text, the passage without that line) for pre-finetuning and known-item tests.

        A titled passage gives (title, text) where the title is unique in the corpus and has `min_words` words; an
        untitled one gives (first sentence, the rest) where the rest is at least as long as a short paragraph. Where
        fewer than ten titles are such ("Chain wear", "Next time"), passages with other titles give their first
        sentence, too.

        Args:
            min_words: fewest words of a query.
        """
        good = {title for title in self.own_titles() if _informative(title, min_words)}
        pairs = []
        for passage in self:
            if passage.title in good:
                pairs.append((passage.title or "", replace(passage, title=None)))
            elif not passage.title or len(good) < _FEW_TITLES:
                first, *others = split_sentences(passage.text)
                body = " ".join(others)
                if _informative(first, min_words) and count_words(first) <= 40 and count_words(body) >= 20:
                    pairs.append((first, replace(passage, text=body)))
        return pairs


def _informative(line: str, min_words: int) -> bool:
    return (
        sum(any(c.isalpha() for c in word) for word in line.split()) >= min_words or count_words(line) >= 2 * min_words
    )


def _to_table(passages: Iterable[Passage]) -> pa.Table:
    batches, rows = [], []
    for passage in passages:
        rows.append((passage.id, passage.title or None, passage.text, passage.source))
        if len(rows) == _ROWS_PER_CHUNK:
            batches.append(_to_batch(rows))
            rows = []
    if rows:
        batches.append(_to_batch(rows))
    return pa.Table.from_batches(batches, SCHEMA)


def _to_batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _raise_repeated_id(ids: list[str], name: str) -> None:
    seen: dict[str, int] = {}
    for row, identifier in enumerate(ids, start=1):
        if identifier in seen:
            raise DataError(
                f"{name}: id {identifier!r} is used by passages {seen[identifier]} and {row}; ids must differ"
            )
        seen[identifier] = row
