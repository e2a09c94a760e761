"""Arrow files that are mapped into memory, with a checksum of every record batch.

Arrow follows the offsets in a file without a check, so that one damaged bit can end the process at any later read.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from gecko_core.errors import DataError, first_line
from gecko_core.io import whole_path

_CHECKSUM = b"gecko.crc32"  # of a batch
_ALL = b"gecko.rows"  # of the file, told by its last batch
_CURE = "write it again with RowSet.write"


def write_mapped(path: str | Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Stream record batches into an Arrow file without holding them; the file appears whole.

    Returns:
        The number of rows.

    Raises:
        DataError: the file cannot be written.
    """
    count = 0
    with whole_path(path) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
        following = iter(batches)
        batch = next(following, None)
        while batch is not None:
            stored = pa.ipc.read_record_batch(batch.serialize(), schema)  # its buffers are those of the file
            about = {_CHECKSUM: str(_checksum(stored)).encode()}
            count += batch.num_rows
            after = next(following, None)
            if after is None:
                about[_ALL] = str(count).encode()
            writer.write_batch(batch, custom_metadata=about)
            batch = after
    return count


def read_mapped(path: str | Path, schema: pa.Schema) -> tuple[pa.Table, mmap.mmap]:
    """Map a file that :func:`write_mapped` wrote, after one reading of it.

    Files without checksums are checked for what Arrow itself requires: their texts may have changed.

    Args:
        path: the file.
        schema: that it must have.

    Returns:
        The table, and what it is mapped by.

    Raises:
        DataError: no such file, another kind of file, other columns, or a damaged one.
    """
    if Path(path).is_dir():
        raise DataError(f"{path}: is a folder; name the file in it that RowSet.write wrote")
    try:
        with Path(path).open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = pa.py_buffer(mapped)
        reader = pa.ipc.open_file(pa.BufferReader(whole))
        if reader.schema != schema:
            raise DataError(f"{path}: columns {reader.schema.names}, expected {schema.names}; write it again")
        batches: list[pa.RecordBatch] = []
        before, about = 0, {}
        for number in range(reader.num_record_batches):
            batch, metadata = reader.get_batch_with_custom_metadata(number)
            about = dict(metadata or {})
            fault = _fault(batch, about.get(_CHECKSUM), whole)
            if fault:
                raise DataError(f"{path}: rows {before + 1} to {before + batch.num_rows}: damaged ({fault}); {_CURE}")
            batches.append(batch)
            before += batch.num_rows
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)
        if _CHECKSUM in about and about.get(_ALL) != str(before).encode():
            raise DataError(f"{path}: damaged ({before} rows found, and there were others); {_CURE}")
    # ValueError: an empty file has no mapping; SystemError: pyarrow's, of some damaged files
    except (OSError, ValueError, MemoryError, SystemError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a training set file ({first_line(error)}); {_CURE}") from error
    return pa.Table.from_batches(batches, schema=schema), mapped


def _fault(batch: pa.RecordBatch, checksum: bytes | None, whole: pa.Buffer) -> str:
    """What is wrong with a batch of a file, or nothing."""
    end = whole.address + whole.size
    if any(one.address < whole.address or one.address + one.size > end for one in _buffers(batch)):
        return "data beyond the end of the file"
    try:
        batch.validate()  # or the children of an array could not be looked at
        if checksum is not None and checksum != str(_checksum(batch)).encode():
            return "checksums differ"
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        return first_line(error)
    return ""


def _checksum(batch: pa.RecordBatch) -> int:
    shape = [(len(array), array.null_count) for column in batch.columns for array in _with_children(column)]
    checksum = zlib.crc32(repr(shape).encode())
    for buffer in _buffers(batch):
        checksum = zlib.crc32(buffer, checksum)
    return checksum


def _with_children(array: pa.Array) -> Iterator[pa.Array]:
    yield array
    if pa.types.is_struct(array.type):
        for place in range(array.type.num_fields):
            yield from _with_children(array.field(place))
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _with_children(array.values)


def _buffers(batch: pa.RecordBatch) -> Iterator[Any]:
    for column in batch.columns:
        yield from (buffer for buffer in column.buffers() if buffer is not None and buffer.size)
