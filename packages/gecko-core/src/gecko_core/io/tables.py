"""Tables of records: JSONL, CSV, TSV, Parquet and data sets of the hub, read row by row.

The one reader of all packages. It refuses ambiguous input: a row with more cells than the header, an unterminated
quote, a truncated gzip file, a line that is not JSON. Every error names the file and the row.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError, DataError, first_line
from gecko_core.io.records import Record, listed

#: Endings that :func:`read_table` knows; all but .parquet may be followed by .gz.
TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
HUB = "hub:"
_PARQUET_ROWS = 4096
#: Most bytes of a line, and most characters of a cell: a quote that is not closed would take the rest of the file.
_LONGEST = 1 << 26


def table_kind(path: str | Path) -> str | None:
    """The table ending of a file name without .gz (``.csv`` for ``a.csv.gz``), or None where it is no table."""
    name = Path(path).name.lower()
    plain = name.removesuffix(".gz")
    kind = next((suffix for suffix in TABLE_SUFFIXES if plain.endswith(suffix)), None)
    return None if kind == ".parquet" and plain != name else kind


def read_table(
    path: str | Path,
    *,
    need: Sequence[str] = (),
    optional: Sequence[str] = (),
    only: Sequence[str] | None = None,
    kind: str | None = None,
) -> Iterator[Record]:
    """Rows of a .jsonl, .csv, .tsv (each also .gz) or .parquet file, in order, one at a time.

    Args:
        path: the file.
        need: columns that a header (CSV, TSV, Parquet) must have; callers check the fields of JSONL rows.
        optional: columns that are read where they are there; one whose name differs in case or white space alone is
            refused, since it would be passed over.
        only: columns to read from a Parquet file; the others are skipped.
        kind: one of ``TABLE_SUFFIXES`` for a file whose name does not tell.

    Raises:
        DataError: no such file, another ending, or content that cannot be read; one line naming file and row.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file, one of {', '.join(TABLE_SUFFIXES)}")
    kind = kind or table_kind(path)
    if kind is None:
        raise DataError(
            f"{path}: unknown kind of file; {', '.join(TABLE_SUFFIXES)} are read, all but .parquet also with .gz"
        )
    if not path.is_file():
        raise DataError(f"{path}: not a file; name a file" if path.exists() else f"{path}: no such file")
    if kind == ".parquet":
        return _parquet(path, need, optional, only)
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; it should hold rows")
    if kind == ".jsonl":
        return _spelled(_jsonl(path), optional) if optional else _jsonl(path)
    return _separated(path, "\t" if kind == ".tsv" else ",", need, optional)


def _spelled(records: Iterable[Record], optional: Sequence[str]) -> Iterator[Record]:
    """The records, whose keys are looked at whenever they are others than before."""
    before: tuple[str, ...] = ()
    for record in records:
        keys = tuple(record.fields)
        if keys != before:
            _check_spelling(record.where, keys, optional)
            before = keys
        yield record


def _check_spelling(where: object, names: Sequence[str], optional: Sequence[str]) -> None:
    for name in names:
        meant = name.strip().lower()
        if meant in optional and name not in optional and meant not in names:
            raise DataError(f"{where}: the column {name[:80]!r} is not read; call it {meant!r}, or leave it out")


def count_rows(path: str | Path) -> int | None:
    """The number of rows where the file states it (Parquet), for an ETA; else None."""
    path = Path(path)
    if table_kind(path) != ".parquet" or not path.is_file():
        return None
    pa, parquet = pyarrow()
    try:
        with path.open("rb") as opened:
            return int(parquet.read_metadata(opened).num_rows)
    except (pa.ArrowException, OSError):
        return None


def read_hub(name: str, split: str = "train", *, config: str | None = None, streaming: bool = True) -> Iterator[Record]:
    """Rows of a data set of the Hugging Face hub, through ``datasets``.

    Raises:
        ConfigError: ``datasets`` is not installed.
        DataError: the hub or the data set cannot be read.
    """
    where = f"{HUB}{name}"
    if not name.strip():
        raise DataError(f"{where}: names no data set; write hub:OWNER/NAME")
    try:
        from datasets import load_dataset
    except ImportError:
        raise ConfigError(f"{where}: needs datasets: pip install 'gecko-core[hub]', or name a local file") from None
    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(name, config, split=split, streaming=streaming)
        for number, fields in enumerate(rows, start=1):
            yield Record(number, f"{where}, row {number}", _without_nan(fields))
    except DataError:
        raise
    except Exception as error:  # the hub's client raises a dozen unrelated kinds
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{where}: cannot be read ({first}); check the name, the split and the network, or name a local file"
        ) from None


def user_path(path: str | Path) -> Path:
    """The path with a leading ``~`` or ``~name`` replaced by that user's home.

    Raises:
        DataError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise DataError(f"{path}: there is no user of that name; give the path in full") from None


def below_data_dir(path: str | Path) -> Path:
    """The path itself, or the one below GECKO_DATA_DIR where only that exists.

    Args:
        path: a file or folder; it need not exist.
    """
    path, root = Path(path), os.environ.get("GECKO_DATA_DIR")
    return Path(root) / path if root and not path.exists() and (Path(root) / path).exists() else path


def find_data(path: str | Path) -> Path:
    """The file or folder at ``path``, or below GECKO_DATA_DIR.

    Raises:
        DataError: it is in neither place.
    """
    place = below_data_dir(path)
    if not place.exists():
        raise DataError(
            f"{path}: no such file or folder, also not below GECKO_DATA_DIR; correct the path or set the variable"
        )
    return place


def read_lines(path: str | Path, *, prose: bool = False) -> Iterator[tuple[int, str]]:
    """(line number from 1, line without its end) of a UTF-8 text file, decompressed if its name ends in .gz.

    Args:
        path: the file.
        prose: lines belong together and may hold carriage returns, which are white space there.

    Raises:
        DataError: the file cannot be read, is not a whole gzip file, or is not UTF-8 (the byte is named); a carriage
            return that is no part of a line's end, as in files whose lines end in it alone.
    """
    for number, text in _text_lines(Path(path)):
        line = text.rstrip("\r\n")
        if "\r" in line and not prose:
            raise DataError(f"{path}:{number}: a carriage return within the line; end lines with a line feed")
        yield number, line


def pyarrow() -> tuple[Any, Any]:
    """Import pyarrow and pyarrow.parquet; called when they are needed.

    Raises:
        ConfigError: they are not installed; the line names the extra.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("Parquet needs pyarrow: pip install 'gecko-core[parquet]', or use .npy and .jsonl") from None
    return pyarrow, pyarrow.parquet


def unreadable(path: str | Path, error: Exception) -> DataError:
    """What to tell a user whose file cannot be read."""
    number = getattr(error, "errno", None)
    reason = os.strerror(number) if number else (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path}: cannot be read ({reason}); see its permissions, or name another file")


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    offset = number = 0
    if path.exists() and not path.is_file():  # a pipe or a device: reading might wait for ever
        raise DataError(f"{path}: not a file; name a file")
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), start=1):
                if len(raw) > _LONGEST:
                    raise DataError(f"{path}:{number}: a line of more than {_LONGEST >> 20} MiB; break it up")
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: not UTF-8 at byte {offset + error.start} (0x{raw[error.start]:02x}); "
                        "convert the file to UTF-8"
                    ) from None
                yield number, line.removeprefix("\ufeff") if number == 1 else line
                offset += len(raw)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}, after line {number}); fetch it again") from None
    except OSError as error:
        raise unreadable(path, error) from None


#: What a message calls what JSON gives.
_KINDS = {type(None): "null", bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line in _text_lines(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            fields = json.loads(line, parse_constant=_constant, parse_float=_number, object_pairs_hook=_object)
            if "\\ud" in line or "\\uD" in line:  # only an escape brings half a surrogate pair into UTF-8
                _check_surrogates(fields, where)
        except RecursionError:
            raise DataError(f"{where}: not JSON that can be read (nested too deeply)") from None
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg}, column {error.colno}); one object per line") from None
        except ValueError as error:  # a number of thousands of digits, Infinity, a key that occurs twice
            raise DataError(f"{where}: not JSON that can be read ({str(error).split(';')[0]})") from None
        if not isinstance(fields, dict):
            raise DataError(f"{where}: {_KINDS[type(fields)]}; expected a JSON object, one per line")
        yield Record(number, where, fields)


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no JSON number")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return fields


def _check_surrogates(value: Any, where: str, key: str = "") -> None:
    """Refuse half a surrogate pair in any text or key below ``value``, which belongs to the field ``key``."""
    if isinstance(value, list):
        for element in value:
            _check_surrogates(element, where, key)
    elif isinstance(value, dict):
        for name, element in value.items():
            _check_surrogates(name, where, key or name)
            _check_surrogates(element, where, key or name)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            character = f"U+{ord(value[error.start]):04X}"
            raise DataError(
                f"{where}: {key!r} holds half of a surrogate pair ({character}), which is no character; remove it"
            ) from None


def _separated(path: Path, delimiter: str, need: Sequence[str], optional: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST)  # the default refuses cells over 128 kB
    reader = csv.reader((line for _, line in _text_lines(path)), delimiter=delimiter, strict=True)
    try:
        header = next(reader, [])
        _check_header(path, header, delimiter, need)
        _check_spelling(path, header, optional)
        number = 0
        for cells in reader:
            if not cells:
                continue
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells where the header has {len(header)}; put cells that hold the "
                    'separator or a quote into "double quotes"'
                )
            if delimiter == "\t" and (line := _line_like_a_row(cells)):
                raise DataError(
                    f"{where}: a cell in quotes holds a whole row ({line[:40]!r}); where its two quotes belong to the "
                    "texts, write each twice and the cell in quotes, else write the table as .csv or .jsonl"
                )
            number += 1
            yield Record(number, where, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not a row of a table ({error}); a quote within a cell is written "
            "twice, one that opens a cell is closed"
        ) from None


def _line_like_a_row(cells: Sequence[str]) -> str | None:
    """A line within a cell that has the tabs of a row; most programs that write .tsv know no quotes.

    Args:
        cells: of a row whose quotes have been read as quotes.
    """
    for place, cell in enumerate(cells):
        _, *lines = cell.split("\n")
        for number, line in enumerate(lines, 1):
            after = len(cells) - 1 - place if number == len(lines) else 0
            if line.strip() and line.count("\t") + after == len(cells) - 1:
                return line
    return None


def _check_header(path: Path, header: Sequence[str], delimiter: str, need: Sequence[str]) -> None:
    missing = next((name for name in need if name not in header), None)
    if missing is not None:
        other = next((mark for mark in (";", "\t", "|", ",") if len(header) == 1 and mark in header[0]), None)
        hint = f"; columns are separated by {delimiter!r} here, not by {other!r}" if other else ""
        raise DataError(f"{path}: no column {missing!r} (found: {listed(header)}){hint}")
    repeated = next((name for name, times in Counter(header).items() if name and times > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: the header names column {repeated[:80]!r} twice; rename one of them")


def _parquet(path: Path, need: Sequence[str], optional: Sequence[str], only: Sequence[str] | None) -> Iterator[Record]:
    pa, parquet = pyarrow()
    number = 0
    try:
        # Opened here: Arrow takes no name that is not UTF-8.
        with path.open("rb") as opened, parquet.ParquetFile(opened, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            missing = next((name for name in need if name not in names), None)
            if missing is not None:
                raise DataError(f"{path}: no column {missing!r} (found: {listed(names)})")
            _check_spelling(path, names, optional)
            repeated = next((name for name, times in Counter(names).items() if times > 1), None)
            if repeated is not None:
                raise DataError(f"{path}: the schema names column {repeated[:80]!r} twice; rename one of them")
            columns = None if only is None else [name for name in names if name in only]
            for batch in file.iter_batches(columns=columns, batch_size=_PARQUET_ROWS):
                for fields in _rows(batch, path, number):
                    number += 1
                    yield Record(number, f"{path}, row {number}", _without_nan(fields))
            told = file.metadata.num_rows
            if number != told:  # pyarrow ends a damaged row group early and says nothing
                raise DataError(f"{path}: {told} rows by its footer, {number} read; it is damaged: write it anew")
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # pyarrow raises others of damaged pages
            raise unreadable(path, error) from None
        raise DataError(f"{path}: not a readable Parquet file ({first_line(error)})") from None


class Unheld:
    """A value that Python cannot hold. It has a short name for messages; Arrow's own scalars raise when they are shown.

    Args:
        kind: Arrow's name of its type.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind} out of range>"


def _rows(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """The rows of a batch of Arrow's, ``before`` of which the file has as many.

    What Python cannot hold, such as dates beyond the year 9999, is an ``Unheld``, which no reader takes for anything.
    """
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    except (OverflowError, ValueError):
        columns = {name: _values(batch.column(name), f"{path}, column {name!r}", before) for name in batch.schema.names}
        return [{name: values[row] for name, values in columns.items()} for row in range(batch.num_rows)]


def _values(column: Any, where: str, before: int) -> list[Any]:
    values = []
    for number, scalar in enumerate(column, start=before + 1):
        try:
            values.append(scalar.as_py())
        except UnicodeDecodeError:
            raise DataError(f"{where}, row {number}: not valid UTF-8; write the file anew from the source") from None
        except (OverflowError, ValueError):
            values.append(Unheld(str(scalar.type)))
    return values


def _without_nan(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _nan_to_none(value) for name, value in fields.items()}


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {name: _nan_to_none(element) for name, element in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict | list):  # a column's elements are of one type
        return [_nan_to_none(element) for element in value]
    return value
