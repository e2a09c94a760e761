"""Files of document-level vectors: Parquet, one row for each chunk, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import pyarrow, whole_file

_KEY = b"gecko_fields"
_CURE = "make it again with gecko-fret vectors"


@dataclass(frozen=True)
class DocumentVectors:
    """What a file holds.

    Attributes:
        document_ids: the document of each chunk.
        chunk_ids: ids of the chunks.
        vectors: (C, D) float32.
        about: how they were made: ``weights``, ``normalized``, ``model``, ``dim``, ``queries`` and more.
    """

    document_ids: list[str]
    chunk_ids: list[str]
    vectors: np.ndarray
    about: dict[str, Any]

    @property
    def documents(self) -> tuple[np.ndarray, list[str]]:
        """The number (C,) of each chunk's document, and the documents' ids by number."""
        numbers: dict[str, int] = {}
        owners = np.array([numbers.setdefault(name, len(numbers)) for name in self.document_ids], dtype=np.int64)
        return owners, list(numbers)


class VectorsWriter:
    """Writes a file a block at a time; see :meth:`open`."""

    def __init__(self, writer: Any, schema: Any, dim: int):
        self._writer, self._schema, self._dim = writer, schema, dim
        self.rows = 0

    @classmethod
    @contextmanager
    def open(cls, path: str | Path, dim: int, about: Mapping[str, Any]) -> Iterator[VectorsWriter]:
        """Yield a writer of a file that appears when it is complete.

        Args:
            path: the file.
            dim: of the vectors.
            about: how they are made, as JSON values.

        Raises:
            ConfigError: pyarrow is not installed.
            DataError: the file cannot be written.
        """
        pa, pq = pyarrow()
        kind = pa.list_(pa.float32(), dim)
        schema = pa.schema(
            [("document_id", pa.string()), ("chunk_id", pa.string()), ("embedding", kind)],
            metadata={_KEY: json.dumps(dict(about), sort_keys=True)},
        )
        options = {"compression": "zstd", "write_page_checksum": True}
        with whole_file(path) as file, pq.ParquetWriter(file, schema, **options) as writer:
            yield cls(writer, schema, dim)

    def write(self, document_ids: Sequence[str], chunk_ids: Sequence[str], vectors: np.ndarray) -> None:
        """Append rows: (n, dim) vectors, and ids of as many chunks and their documents."""
        pa, _ = pyarrow()
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, type=self._schema.field("embedding").type)
        ids = [pa.array(list(names), pa.string()) for names in (document_ids, chunk_ids)]
        self._writer.write_table(pa.Table.from_arrays([*ids, column], schema=self._schema))
        self.rows += len(chunk_ids)


def read_vectors(path: str | Path) -> DocumentVectors:
    """Read a file that :class:`VectorsWriter` wrote.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: no such file, another kind of file, or a damaged one.
    """
    about = read_about(path)
    pa, pq = pyarrow()
    try:
        with Path(path).open("rb") as file:  # opened here: Arrow takes no name that is not UTF-8
            table = pq.read_table(file, page_checksum_verification=True)
        ids = [table[name].to_pylist() for name in ("document_id", "chunk_id")]
        dim = table.schema.field("embedding").type.list_size
        embeddings = table["embedding"].combine_chunks()
        flat = embeddings.flatten()
        if embeddings.null_count or flat.null_count:
            raise DataError(f"{path}: a vector is missing, or a number of one; {_CURE}")
        flat = flat.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, OSError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from None
    return DocumentVectors(ids[0], ids[1], np.asarray(flat, dtype=np.float32).reshape(len(table), dim), about)


def read_about(path: str | Path) -> dict[str, Any]:
    """How the vectors of a file were made, without reading them.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: no such file, another kind of file, or a damaged one.
    """
    pa, pq = pyarrow()
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file; {_CURE}")
    try:
        with Path(path).open("rb") as file:
            metadata = pq.read_schema(file).metadata or {}
        about = json.loads(metadata.get(_KEY, b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(about, dict) or not isinstance(about.get("weights"), dict):
        raise DataError(f"{path}: does not say how its vectors were made; {_CURE}")
    return about


def _unreadable(path: str | Path, error: Exception) -> DataError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path}: not a readable file of document vectors ({first}); {_CURE}")
