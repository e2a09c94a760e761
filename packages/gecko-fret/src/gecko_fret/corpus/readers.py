"""Reading passages from folders, tables and hub data sets, with errors that name the file and the row."""

from __future__ import annotations

import csv
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_fret.corpus.markup import html_to_markdown, markdown_sections
from gecko_fret.corpus.passages import Passage
from gecko_fret.corpus.splitting import count_words, split_text

TABLE_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm")
_MAX_TITLE_WORDS = 20


def corpus_name(spec: str | Path) -> str:
    """A short name for reports: the file's or folder's name."""
    text = str(spec)
    return text if text.startswith("hub:") else Path(text).resolve().name


def read_passages(spec: str | Path, split: str = "auto") -> Iterator[Passage]:
    """Passages of a folder, a table file or a hub data set, one at a time, in a fixed order. Raises `DataError`."""
    text = str(spec)
    if text.startswith("hub:"):
        return _from_rows(_read_hub(text), text, split)
    if not text.strip():
        raise DataError("the corpus has an empty name; give a folder, a file, hub:NAME or python-docs")
    path = Path(spec).expanduser()
    try:
        there = path.exists()
    except OSError as error:  # a folder above it that may not be looked into, or a name that is too long
        raise _unreadable(path, error) from None
    if not there:
        raise DataError(f"{path}: no such corpus; give a folder, a .jsonl, .csv or .parquet file, or 'python-docs'")
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise DataError(f"{path}: may not be read; see its permissions, or name another corpus")
    if path.is_dir():
        return _read_folder(path, split)
    suffix = "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty; it should hold rows with a 'text' column")
        readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
        rows = readers[suffix.removesuffix(".gz")](path)
        return _from_rows(rows, str(path), split)
    if suffix in TEXT_SUFFIXES:
        return _read_text_file(path, path.name, split)
    raise DataError(f"{path}: cannot read '{suffix or 'no suffix'}'; use {', '.join(TABLE_SUFFIXES + TEXT_SUFFIXES)}")


def _read_folder(folder: Path, split: str) -> Iterator[Passage]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())
    if not files:
        raise DataError(f"{folder}: no {', '.join(TEXT_SUFFIXES)} file in this folder")
    for path in files:
        yield from _read_text_file(path, path.relative_to(folder).as_posix(), split)


def _read_text_file(path: Path, name: str, split: str) -> Iterator[Passage]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    text = _decode(raw, path, 0).lstrip("\ufeff").replace("\r\n", "\n")
    if path.suffix.lower() in (".html", ".htm"):
        text = html_to_markdown(text)
    if path.suffix.lower() == ".txt":
        sections = [_plain_title(text)]
    else:
        sections = markdown_sections(text)
    source = name.rpartition("/")[0] or None
    if split == "never":
        title = next((t for t, _ in sections if t), None)
        body = "\n\n".join(part for part in (body.strip() for _, body in sections) if part)
        if body:
            yield Passage(name, title, body, source)
        return
    number = 0
    for title, body in sections:
        for piece in split_text(body):
            yield Passage(f"{name}#{number}", title, piece, source)
            number += 1


def _plain_title(text: str) -> tuple[str | None, str]:
    """A short first line that stands alone above the text is its title."""
    first, _, rest = text.strip().partition("\n\n")
    if rest.strip() and "\n" not in first and count_words(first) <= _MAX_TITLE_WORDS and first[-1:] not in ".!?:;,":
        return first.strip(), rest
    return None, text


def _from_rows(rows: Iterable[tuple[int, Mapping[str, Any]]], where: str, split: str) -> Iterator[Passage]:
    seen: dict[str, int] = {}
    for row, record in rows:
        text = record.get("text")
        if not isinstance(text, str) or not text.strip():
            columns = ", ".join(sorted(str(key) for key in record)) or "none"
            problem = (
                "no 'text'"
                if text is None
                else "an empty 'text'"
                if text == "" or isinstance(text, str)
                else "a 'text' that is not a string"
            )
            raise DataError(f"{where}, row {row}: {problem} (columns: {columns}); every row needs its text in 'text'")
        for key in ("text", "title", "id"):
            _check_characters(record.get(key), where, row, key)
        given = record.get("id", record.get("_id"))  # `_id`: the BEIR layout
        identifier = str(row - 1) if given in (None, "") else str(given)
        if identifier in seen:
            raise DataError(f"{where}: id {identifier!r} is used in rows {seen[identifier]} and {row}; ids must differ")
        seen[identifier] = row
        title, source = (_optional_text(record.get(key)) for key in ("title", "source"))
        if split != "always":
            yield Passage(identifier, title, text, source)
            continue
        pieces = split_text(text)
        for number, piece in enumerate(pieces):
            yield Passage(identifier if len(pieces) == 1 else f"{identifier}#{number}", title, piece, source)


def _check_characters(value: Any, where: str, row: int, key: str) -> None:
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            found = f"U+{ord(value[error.start]):04X}"
            raise DataError(f"{where}, row {row}: half a character ({found}) in '{key}'; remove it") from None


def _optional_text(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(row, decoded line), rows from 1; names the byte at which the file stops being UTF-8."""
    offset = 0
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for row, raw in enumerate(file, start=1):
                line = _decode(raw, path, offset)
                yield row, line.lstrip("\ufeff") if row == 1 else line
                offset += len(raw)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}); fetch it again") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror}); see its permissions, or name another corpus")


def _decode(raw: bytes, path: Path, offset: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = offset + error.start
        raise DataError(
            f"{path}: not UTF-8 at byte {where} (0x{raw[error.start]:02x}); convert the file to UTF-8"
        ) from None


def _read_jsonl(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for row, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, row {row}: not JSON ({error.msg}, column {error.colno}); one object per line"
            ) from None
        if not isinstance(record, dict):
            raise DataError(f"{path}, row {row}: a {type(record).__name__}, not an object with a 'text' key")
        yield row, record


def _read_csv(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    csv.field_size_limit(2**31 - 1)
    reader = csv.DictReader((line for _, line in _lines(path)), strict=True)
    try:
        if "text" not in (reader.fieldnames or ()):
            names = ", ".join(reader.fieldnames or ()) or "none"
            raise DataError(f"{path}, row 1: the header has no 'text' column (columns: {names})")
        for row, record in enumerate(reader, start=1):
            yield row, {key: value for key, value in record.items() if key is not None}
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a CSV row ({error})") from None


def _read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if name in ("id", "_id", "title", "text", "source")]
        if "text" not in columns:
            raise DataError(f"{path}: no 'text' column (columns: {', '.join(file.schema_arrow.names)})")
        row = 0
        for batch in file.iter_batches(columns=columns, batch_size=4096):
            for record in batch.to_pylist():
                row += 1
                yield row, record
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _read_hub(spec: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    _, name, *split = spec.split(":")
    try:
        from datasets import load_dataset

        data = load_dataset(name, split=split[0] if split else "train", streaming=True)
        yield from enumerate(data, start=1)
    except DataError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{spec}: the hub data set cannot be read ({first}); name a local file instead") from None
