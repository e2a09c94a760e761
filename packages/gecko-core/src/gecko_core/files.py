"""Rows to encode out of JSONL, CSV, Parquet and plain text files, one at a time."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError, DataError
from gecko_core.stream import Row, pyarrow

SUFFIXES = (".jsonl", ".csv", ".parquet", ".txt")


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read. title and id may be absent from a file; text may not."""

    text: str = "text"
    title: str = "title"
    id: str = "id"


def read_rows(path: Path, columns: Columns | None = None) -> Iterator[Row]:
    """Rows of a .jsonl, .csv (with a header), .parquet or .txt (a text per line) file, in order.

    Raises `ConfigError` for another ending, `DataError` naming file and line for what cannot be read.
    """
    columns = columns or Columns()
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet, ".txt": _lines}
    if path.suffix not in readers:
        raise ConfigError(f"{path}: unknown kind of file; give one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        yield from readers[path.suffix](path, columns)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start} after the last good line); convert it first") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error).split("\n")[0]
        raise DataError(f"{path}: cannot be read ({reason})") from None


def count_rows(path: Path) -> int | None:
    """The number of rows where the file says it at no cost, for an ETA."""
    if path.suffix == ".parquet" and path.is_file():
        pa, parquet = pyarrow()
        try:
            return int(parquet.read_metadata(path).num_rows)
        except (pa.ArrowException, OSError):
            return None
    return None


def _row(fields: dict[str, Any], columns: Columns, where: str) -> Row:
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


def _jsonl(path: Path, columns: Columns) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not JSON ({error})") from None
            if not isinstance(fields, dict):
                raise DataError(f"{path}:{number}: must be a JSON object, is a {type(fields).__name__}")
            yield _row(fields, columns, f"{path}:{number}")


def _csv(path: Path, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses cells over 128 kB
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if columns.text not in (reader.fieldnames or []):
            raise DataError(
                f"{path}: the header has no column {columns.text!r} (found: {', '.join(reader.fieldnames or [])})"
            )
        try:
            for fields in reader:
                yield _row(fields, columns, f"{path}:{reader.line_num}")
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def _lines(path: Path, columns: Columns) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line in file:
            yield Row(line.rstrip("\r\n"))


def _parquet(path: Path, columns: Columns) -> Iterator[Row]:
    pa, parquet = pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if columns.text not in names:
                raise DataError(f"{path}: no column {columns.text!r} (found: {', '.join(names)})")
            wanted = [name for name in (columns.text, columns.title, columns.id) if name in names]
            first = 0
            for batch in file.iter_batches(batch_size=8192, columns=wanted):
                for number, fields in enumerate(batch.to_pylist(), start=first):
                    yield _row(fields, columns, f"{path}: row {number}")
                first += batch.num_rows
    except pa.ArrowException as error:
        raise DataError(f"{path}: not Parquet ({str(error).splitlines()[0]})") from None
