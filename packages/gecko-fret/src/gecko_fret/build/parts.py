"""A stage's output as numbered Parquet parts. A part that exists is whole; a stage is done when all of them exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gecko_core.errors import DataError
from gecko_core.io import whole_path

_COUNTERS = b"gecko_fret"


def write_parquet(path: str | Path, table: pa.Table) -> None:
    """Writes an Arrow table as Parquet, whole or not at all. The same table gives the same bytes."""
    with whole_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


class Parts:
    """The parts of one stage in one folder, rows as dictionaries.

    `prefix` keeps several stages apart in one folder (`rejects/part-generate-00000.parquet`).
    """

    def __init__(self, folder: str | Path, schema: pa.Schema, prefix: str = ""):
        self.folder, self.schema = Path(folder), schema
        self._stem = f"part-{prefix}-" if prefix else "part-"
        self._pattern = re.compile(re.escape(self._stem) + r"(\d{5,})\.parquet")

    def path(self, number: int) -> Path:
        return self.folder / f"{self._stem}{number:05d}.parquet"

    def exists(self, number: int) -> bool:
        return self.path(number).exists()

    def numbers(self) -> list[int]:
        """Numbers of the parts that are there, ascending."""
        if not self.folder.is_dir():
            return []
        matches = (self._pattern.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def write(self, number: int, rows: Sequence[Mapping[str, Any]], counters: Mapping[str, int] | None = None) -> None:
        """Writes part `number`; `counters` (tokens read, tokens written...) travel in the file's own metadata."""
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if counters:
            value = json.dumps(dict(sorted(counters.items()))).encode()
            table = table.replace_schema_metadata({_COUNTERS: value})
        write_parquet(self.path(number), table)

    def table(self, number: int) -> pa.Table:
        """Part `number` as an Arrow table. Raises `DataError` when the file is damaged or not of this stage."""
        path = self.path(number)
        try:
            table = pq.read_table(path, partitioning=None)
        except FileNotFoundError:
            raise DataError(f"{path}: the part is missing; run the same build again to make it") from None
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise DataError(f"{path}: the part is damaged ({reason}); delete it and run the same build again") from None
        missing = [name for name in self.schema.names if name not in table.schema.names]
        if missing:
            raise DataError(f"{path}: no column '{missing[0]}'; delete the part and run the same build again")
        return table

    def rows(self, number: int) -> list[dict[str, Any]]:
        return self.table(number).select(self.schema.names).to_pylist()

    def count(self, number: int) -> int:
        """Rows of part `number`, from its footer alone."""
        try:
            return pq.read_metadata(self.path(number)).num_rows
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise DataError(f"{self.path(number)}: the part is damaged ({reason}); delete it and run again") from None

    def counters(self, number: int) -> dict[str, int]:
        metadata = self.table(number).schema.metadata or {}
        return json.loads(metadata.get(_COUNTERS, b"{}"))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All rows of all parts in order, one part in memory at a time."""
        for number in self.numbers():
            yield from self.rows(number)

    def clear(self) -> int:
        """Deletes the parts; returns how many there were."""
        numbers = self.numbers()
        for number in numbers:
            self.path(number).unlink()
        return len(numbers)
