"""Rows to encode out of tables and plain text files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gecko_core.encode.stream import Row
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import TABLE_SUFFIXES, Record, read_lines, read_table, table_kind


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read. title and id may be absent from a file; text may not."""

    text: str = "text"
    title: str = "title"
    id: str = "id"


def read_rows(path: Path, columns: Columns | None = None) -> Iterator[Row]:
    """Rows of a table (`gecko_core.io.read_table`) or of a .txt file with a text per line, in order.

    Raises `ConfigError` for another ending, `DataError` naming file and line for what cannot be read.
    """
    columns = columns or Columns()
    if path.name.lower().removesuffix(".gz").endswith(".txt"):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        for _, line in read_lines(path):
            yield Row(line)
        return
    if table_kind(path) is None:
        raise ConfigError(f"{path}: unknown kind of file; give one of {', '.join((*TABLE_SUFFIXES, '.txt'))}")
    only = (columns.text, columns.title, columns.id)
    for record in read_table(path, need=(columns.text,), only=only):
        yield _row(record, columns)


def _row(record: Record, columns: Columns) -> Row:
    where, fields = record.where, record.fields
    text = fields.get(columns.text)
    if not isinstance(text, str):
        found = (
            f"is {type(text).__name__}"
            if columns.text in fields
            else f"is missing (found: {', '.join(fields) or 'nothing'})"
        )
        raise DataError(f"{where}: {columns.text!r} {found}; every row needs a text")
    title, key = fields.get(columns.title), fields.get(columns.id)
    if title is not None and not isinstance(title, str):
        raise DataError(f"{where}: {columns.title!r} is {type(title).__name__}, not text")
    return Row(text, title, None if key is None else str(key))
