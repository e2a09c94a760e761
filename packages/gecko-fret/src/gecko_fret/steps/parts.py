"""A step's output as numbered Parquet parts. A part that exists is complete; a step is done when all of them exist.

The manifest lists the parts of a build with their checksums (``gecko_core.io.PartList``). A reader that is given the
list refuses a part that is not what was written.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gecko_core.errors import DataError
from gecko_core.io import PartList, is_special, unreadable, whole_file

Row = TypeVar("Row")

_COUNTERS = b"gecko_fret"
_CURE = "run the same build again to make it again"
_ARROW_TYPES = {str: pa.string(), int: pa.int32(), float: pa.float32(), bool: pa.bool_()}


@dataclass(frozen=True, slots=True)
class Layout(Generic[Row]):
    """How rows of one data class are stored.

    Attributes:
        schema: the columns.
        encode: a row to a record, a dictionary of at least the schema's columns.
        decode: a record to a row.
        optional: columns that are read where a part has them.
    """

    schema: pa.Schema
    encode: Callable[[Row], dict[str, Any]]
    decode: Callable[[dict[str, Any]], Row]
    optional: tuple[str, ...] = ()


def layout_of(row_type: type[Row], keys: Sequence[str] = ()) -> Layout[Row]:
    """The layout that follows from a data class: one column per field, in the order of the fields.

    Args:
        row_type: the data class.
        keys: those that a dictionary in it may have.
    """
    schema = pa.schema([(field.name, field.type) for field in arrow_type(row_type, keys)])
    return Layout(schema, lambda row: dataclasses.asdict(row), lambda record: row_type(**record))  # type: ignore[call-overload]


def arrow_type(hint: Any, keys: Sequence[str] = ()) -> pa.DataType:
    """The Arrow type of a field's annotation.

    Integers and floats take 32 bits; ``Annotated[float, pa.float64()]`` chooses another type. A data class is a struct,
    and every type is nullable, so that ``X | None`` is stored as ``X``. A dictionary is a struct of ``keys``, null
    where it lacks one (see ``dictionary_of``): the library ``datasets`` reads no maps.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return arguments[1]
    if origin is list:
        return pa.list_(arrow_type(arguments[0], keys))
    if origin is dict:
        return pa.struct([(key, arrow_type(arguments[1])) for key in keys])
    if origin is types.UnionType:
        return arrow_type(next(argument for argument in arguments if argument is not type(None)), keys)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return pa.struct([(field.name, arrow_type(hints[field.name], keys)) for field in dataclasses.fields(hint)])
    return _ARROW_TYPES[hint]


def dictionary_of(stored: Any) -> dict[str, Any]:
    """A dictionary as it was before it was stored; earlier versions stored maps, which are read as lists of pairs."""
    return {key: value for key, value in dict(stored).items() if value is not None}


def write_parquet(path: str | Path, table: pa.Table) -> None:
    """Write an Arrow table as Parquet, complete or not at all. The same table gives the same bytes."""
    # The file is opened here, as Arrow takes no name that is not UTF-8.
    with whole_file(path) as file, pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        if table.num_rows:  # `datasets` cannot read a row group without rows
            writer.write_table(table)


def part_count(rows: int, part_size: int) -> int:
    """Number of parts that ``rows`` rows fill."""
    return -(-rows // part_size)


class Parts(Generic[Row]):
    """The parts of one step in one folder.

    Args:
        folder: where they are.
        layout: how rows are stored.
        prefix: keeps the parts of several steps apart in one folder (``rejects/part-write-00000.parquet``).
        listed: the build's list of parts, by their paths relative to its folder; None: whatever is there is read.
    """

    def __init__(self, folder: str | Path, layout: Layout[Row], prefix: str = "", listed: PartList | None = None):
        self.folder, self.layout, self._listed = Path(folder), layout, listed
        self._stem = f"part-{prefix}-" if prefix else "part-"
        self._pattern = re.compile(re.escape(self._stem) + r"(\d{5,})\.parquet")

    def path(self, number: int) -> Path:
        """File of part ``number``."""
        return self.folder / f"{self._stem}{number:05d}.parquet"

    def exists(self, number: int) -> bool:
        """Whether part ``number`` has been written."""
        return self.path(number).exists()

    def numbers(self) -> list[int]:
        """Numbers of the existing parts, ascending."""
        if not self.folder.is_dir():
            return []
        matches = (self._pattern.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def write(self, number: int, rows: Sequence[Row], counters: Mapping[str, int] | None = None) -> None:
        """Write part ``number``; the counters (tokens read, tokens written) go into the file's metadata."""
        table = pa.Table.from_pylist([self.layout.encode(row) for row in rows], schema=self.layout.schema)
        if counters:
            value = json.dumps(dict(sorted(counters.items()))).encode()
            table = table.replace_schema_metadata({_COUNTERS: value})
        write_parquet(self.path(number), table)

    def table(self, number: int) -> pa.Table:
        """Part ``number`` as an Arrow table.

        Raises:
            DataError: the file is missing, damaged, or not of this step.
        """
        path = self.path(number)
        if is_special(path):
            raise DataError(f"{path}: the part is damaged (no file, but a pipe or a device); {_CURE}")
        try:
            data = path.read_bytes()
            self._check(path, data)
            table = pq.read_table(pa.BufferReader(data), partitioning=None)
        except FileNotFoundError:
            raise DataError(f"{path}: the part is missing; run the same build again to make it") from None
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from None
        missing = [name for name in self.layout.schema.names if name not in table.schema.names]
        if missing:
            raise DataError(f"{path}: no column '{missing[0]}'; {_CURE}")
        return table

    def check(self) -> None:
        """Check that the folder holds the parts that the build has listed, and no other.

        Raises:
            DataError: one is missing, or is not of this build.
        """
        if self._listed is None or not len(self._listed):  # of version 0.1, which had no list
            return
        there = {self._name(self.path(number)) for number in self.numbers()}
        listed = {name for name in self._listed if self._is_one(name)}
        for name in sorted(there ^ listed):
            fault = "the part is not of this build" if name in there else "the part is missing"
            raise DataError(f"{self._listed.folder / name}: {fault}; {_CURE}")

    def _check(self, path: Path, data: bytes) -> None:
        listed, name = self._listed, self._name(path)
        if listed is not None and name in listed and sha256(data).hexdigest() != listed[name].sha256:
            raise DataError(f"{path}: the part is damaged (it is not what was written); {_CURE}")

    def _name(self, path: Path) -> str:
        """The name of a part in the list."""
        return f"{self.folder.name}/{path.name}"

    def _is_one(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        return folder == self.folder.name and self._pattern.fullmatch(file) is not None

    def rows(self, number: int) -> list[Row]:
        """The rows of part ``number``.

        Raises:
            DataError: see :meth:`table`.
        """
        table = self.table(number)
        optional = [name for name in self.layout.optional if name in table.schema.names]
        records = table.select([*self.layout.schema.names, *optional]).to_pylist()
        return [self.layout.decode(record) for record in records]

    def count(self, number: int) -> int:
        """Number of rows of part ``number``, read from its footer alone.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            if is_special(self.path(number)):
                raise OSError("no file, but a pipe or a device")
            return rows_of(self.path(number))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.path(number), error) from None

    def total(self) -> int:
        """Number of rows of all parts."""
        return sum(self.count(number) for number in self.numbers())

    def counters(self, number: int) -> dict[str, int]:
        """The counters that were written with part ``number``."""
        metadata = self.table(number).schema.metadata or {}
        return json.loads(metadata.get(_COUNTERS, b"{}"))

    def __iter__(self) -> Iterator[Row]:
        """All rows of all parts in order, one part in memory at a time."""
        for number in self.numbers():
            yield from self.rows(number)

    def clear(self) -> None:
        """Delete all parts."""
        for number in self.numbers():
            self.path(number).unlink()


def _damaged(path: Path, error: Exception) -> DataError:
    if isinstance(error, PermissionError):  # it may be as it was written
        return unreadable(path, error)
    reason = (str(error).splitlines() or [""])[0][:120]
    return DataError(f"{path}: the part is damaged ({reason}); {_CURE}")


def is_readable(path: Path) -> bool:
    """Whether a part that nobody listed can be read to its end: a Parquet file, a NumPy array, or JSON."""
    if is_special(path):
        return False
    try:
        if path.suffix == ".parquet":
            with path.open("rb") as file:
                pq.read_table(file, partitioning=None)
        elif path.suffix == ".npy":
            np.load(path)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
    except (pa.ArrowException, OSError, ValueError, EOFError):
        return False
    return True


def rows_of(path: Path) -> int:
    """Rows of a Parquet part or of an array; 0 for other files."""
    if path.suffix == ".parquet":
        with path.open("rb") as file:
            return int(pq.read_metadata(file).num_rows)
    return len(np.load(path, mmap_mode="r")) if path.suffix == ".npy" else 0
