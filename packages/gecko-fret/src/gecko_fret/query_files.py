"""Queries of a user's own, read from a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from gecko_core.errors import DataError
from gecko_core.io import find_data, read_lines, read_table, table_kind

_COLUMNS = ("query", "text")


class UserQuery(NamedTuple):
    """A query, and its line or row in the file, from 1."""

    number: int
    text: str


def read_queries(path: str | Path) -> list[UserQuery]:
    """The queries of a file: one a line, or a table (.jsonl, .csv, .tsv, .parquet) with a column `query` or `text`.

    White space is made single, empty lines are passed over. The path may also be one below GECKO_DATA_DIR.

    Raises:
        DataError: no such file, a row without its query, or no query at all; one line that names file and row.
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


def _texts(place: Path) -> list[tuple[int, str]]:
    if table_kind(place) is None:
        return list(read_lines(place))
    texts = []
    for record in read_table(place):
        values = [record.fields.get(name) for name in _COLUMNS]
        value = next((value for value in values if value is not None), None)
        if not isinstance(value, str) or not value.strip():
            columns = ", ".join(sorted(map(str, record.fields))) or "none"
            raise DataError(
                f"{record.where}: no text in 'query' or 'text' (columns: {columns}); every row needs its query"
            )
        texts.append((record.number, value))
    return texts
