"""Queries of a user's own, read from a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from gecko_core.errors import DataError
from gecko_core.io import TABLE_SUFFIXES, find_data, listed, read_lines, read_table, table_kind

_COLUMNS = ("query", "text")
_LINE_SUFFIXES = (".txt", ".text", ".log", "")


class UserQuery(NamedTuple):
    """A query, and its line or row in the file, from 1."""

    number: int
    text: str


def read_queries(path: str | Path) -> list[UserQuery]:
    """The queries of a file: one a line, or a table (.jsonl, .csv, .tsv, .parquet) with a column `query` or `text`.

    Lines are read of .txt, .text and .log and of names without an ending. White space is made single, empty lines are
    passed over. The path may also be one below GECKO_DATA_DIR.

    Raises:
        DataError: no such file, one of another kind, a row without its query, a line that is a JSON object, or no query
            at all; one line that names file and row.
    """
    place = find_data(path)
    if place.is_dir():
        raise DataError(f"{path}: is a folder; name a file of queries")
    queries = [UserQuery(number, " ".join(text.split())) for number, text in _texts(place)]
    queries = [query for query in queries if query.text]
    if not queries:
        raise DataError(f"{path}: holds no query; write one a line")
    return queries


def queries_fingerprint(path: str | Path) -> str:
    """Hash of the queries of a file, whatever the file is called."""
    digest = hashlib.sha256()
    for query in read_queries(path):
        digest.update(f"{query.number}\x1f{query.text}\x1e".encode())
    return digest.hexdigest()


def _texts(place: Path) -> Iterator[tuple[int, str]]:
    return _lines(place) if table_kind(place) is None else _cells(place)


def _lines(place: Path) -> Iterator[tuple[int, str]]:
    plain = place.with_suffix("") if place.suffix.lower() == ".gz" else place
    ending, before = plain.suffix.lower(), plain.with_suffix("").suffix.lower()
    if ending not in _LINE_SUFFIXES or before in TABLE_SUFFIXES:  # markup and headers would be taken for queries
        tables = ", ".join(TABLE_SUFFIXES)
        raise DataError(
            f"{place}: queries are not read from '{before if ending in _LINE_SUFFIXES else ''}{ending}'; save a table "
            f"as one of {tables}, queries one a line as .txt"
        )
    for number, line in read_lines(place):
        if _is_object(line):
            raise DataError(f"{place}:{number}: a JSON object in a file of plain lines; save the file as .jsonl")
        yield number, line


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _cells(place: Path) -> Iterator[tuple[int, str]]:
    for record in read_table(place):
        # Where a row has a cell `query`, its `text` is the passage, also where that cell is empty.
        column = next((name for name in _COLUMNS if name in record.fields), None)
        value = None if column is None else record.fields[column]
        if value is not None and not isinstance(value, str):
            shown = shorten(repr(value), 60, placeholder="...")
            raise DataError(f"{record.where}: '{column}' is {shown}, which is no text; write it as one")
        if value is None or not value.strip():
            columns = listed(sorted(map(str, record.fields)))
            raise DataError(
                f"{record.where}: no text in 'query' or 'text' (columns: {columns}); every row needs its query"
            )
        yield record.number, value
