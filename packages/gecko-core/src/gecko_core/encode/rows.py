"""Rows to encode, read from tables and plain text files one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import TABLE_SUFFIXES, Record, read_lines, read_table, table_kind


class Row(NamedTuple):
    """One text to encode.

    Attributes:
        text: the text.
        title: a document's title.
        id: goes into the Parquet file; the row's number where it is None.
    """

    text: str
    title: str | None = None
    id: str | None = None


class RowIds:
    """The ids of rows in their order, each once: a row without id has its number, from 0.

    Ids that were given are kept with their rows, some 200 bytes each; of a row without id one byte is kept.
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._numbered = bytearray()  # 1 for a row without id

    def next(self, given: str | None) -> str:
        """Return the id of the next row.

        Args:
            given: its own id, if it has one.

        Raises:
            DataError: an earlier row has the same; both are named.
        """
        row = len(self._numbered)
        name = str(row) if given is None else given
        numbered = self._row_without_id(name)
        other = self._given.get(name, numbered)
        if other is not None:
            why = "" if given is not None and numbered is None else " (the number of a row without id)"
            raise DataError(
                f"rows {other} and {row}, counted from 0, have the same id {name[:80]!r}{why}; ids must differ"
            )
        if given is not None:
            self._given[name] = row
        self._numbered.append(given is None)
        return name

    def _row_without_id(self, name: str) -> int | None:
        """The row whose number is this id, where it has no other."""
        if not (name.isascii() and name.isdigit() and len(name) < 19 and str(int(name)) == name):
            return None
        row = int(name)
        return row if row < len(self._numbered) and self._numbered[row] else None


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read. A file may lack title and id, but not text, and not what is asked for by name.

    Attributes:
        text: of the texts.
        title: of documents' titles; None: ``title``, unless that is the texts'.
        id: of ids; None: ``id``, unless that is the texts'.
        asked: names that some row must have.
        titled: whether titles are made use of; else one under another name, such as ``Title``, does not matter.

    Raises:
        ConfigError: one column is named for the texts and for something else.
    """

    text: str = "text"
    title: str | None = None
    id: str | None = None
    asked: tuple[str, ...] = ()
    titled: bool = True

    def __post_init__(self) -> None:
        for what in ("title", "id"):
            name = getattr(self, what)
            if name == self.text:
                raise ConfigError(
                    f"the column {name!r} is named for the texts and for the {what}s; name one column for each"
                )
            if name is None and self.text != what:
                object.__setattr__(self, what, what)


def read_rows(path: Path, columns: Columns | None = None) -> Iterator[Row]:
    """Read a table (:func:`gecko_core.io.read_table`), or a .txt file with one text per line.

    Args:
        path: the file.
        columns: names of a table's columns.

    Yields:
        Its rows, in order.

    Raises:
        ConfigError: another ending.
        DataError: what cannot be read; names file and line. After the last row: no row has a column that was asked
            for by name.
    """
    columns = columns or Columns()
    if path.name.lower().removesuffix(".gz").endswith(".txt"):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if columns.asked:
            raise ConfigError(
                f"{path}: a .txt file has no columns, and {columns.asked[0]!r} is asked for; leave it out"
            )
        for _, line in read_lines(path):
            yield Row(line)
        return
    if table_kind(path) is None:
        raise ConfigError(f"{path}: unknown kind of file; give one of {', '.join((*TABLE_SUFFIXES, '.txt'))}")
    only = [name for name in (columns.text, columns.title, columns.id) if name is not None]
    unseen = dict.fromkeys(columns.asked)
    spelled = [name for name in only if columns.titled or name != columns.title]
    for record in read_table(path, need=(columns.text, *columns.asked), optional=spelled, only=only):
        for name in [name for name in unseen if name in record.fields]:
            del unseen[name]
        yield _row(record, columns)
    for name in unseen:
        raise DataError(f"{path}: no row has a column {name!r}; correct its name, or leave the option out")


def _row(record: Record, columns: Columns) -> Row:
    title = None if columns.title is None else record.optional_text(columns.title)
    return Row(record.text(columns.text), title, None if columns.id is None else record.identifier(columns.id))
