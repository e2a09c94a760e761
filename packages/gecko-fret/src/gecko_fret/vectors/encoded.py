"""The vectors of all fields of all documents, on disk while they are made and memory-mapped when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gecko_core.encode import Row, encode_stream
from gecko_core.errors import DataError
from gecko_core.fields import FieldTexts
from gecko_core.io import Progress, file_hash, locked, make_folder, write_text
from gecko_core.vectors import unit_vectors

if TYPE_CHECKING:
    from gecko_core import Gecko

#: The fields that are encoded; the vectors of a document's chunks are the field `chunks` as well.
ENCODED = ("chunks", "title", "queries")


@dataclass(frozen=True)
class EncodedFields:
    """Vectors of unit length by field, and the document that each is of, in ascending order.

    Attributes:
        texts: what was encoded.
        vectors: by field, (M, D) float32.
        documents: by field, (M,) int64: numbers of documents in the order of ``texts``.
    """

    texts: FieldTexts
    vectors: dict[str, np.ndarray]
    documents: dict[str, np.ndarray]

    def rows(self, field: str, first: int, last: int) -> slice:
        """The rows of a field that are of the documents from ``first`` to before ``last``."""
        start, end = np.searchsorted(self.documents[field], [first, last]).tolist()
        return slice(start, end)

    def at(self, field: str, rows: slice | np.ndarray, dim: int) -> np.ndarray:
        """(n, dim) vectors of a field: the first components, normalised again."""
        vectors = np.asarray(self.vectors[field][rows], dtype=np.float32)
        return vectors if dim == vectors.shape[1] else unit_vectors(vectors, field, dim).numpy()


def encode_fields(model: Gecko, texts: FieldTexts, work: Path, task: str, progress: Progress) -> EncodedFields:
    """Encode chunks and titles as documents and queries as queries, or go on where an earlier call was ended.

    Args:
        model: the embedder.
        texts: of the documents.
        work: folder of the vectors; what it holds of the same texts by the same model is not encoded again, unless
            it was damaged.
        task: of the users' queries, which those that were written are compared with.
        progress: shows each field.

    Raises:
        DataError: the disk is full, another process is at work there, or a file there is damaged.
    """
    make_folder(work)
    documents = {field: _owners(texts, field) for field in ENCODED}
    vectors = {}
    with locked(work / "lock", DataError(f"{work}: another process is writing there; wait for it")):
        for field in ENCODED:
            path = work / f"{field}-{_key(model, texts, field, task)}.npy"
            count = len(documents[field])
            if count and not _is_whole(path):
                kind: Literal["query", "document"] = "query" if field == "queries" else "document"
                rows = _texts(texts, field)
                encode_stream(
                    model, rows, path, kind=kind, task=task, total=count, progress=progress, truncate_dim=model.dim
                )
                write_text(_note(path), file_hash(path))
            vectors[field] = _mapped(path, count, model.dim)
    return EncodedFields(texts, vectors, documents)


def _note(path: Path) -> Path:
    """The file that says what is in another one."""
    return path.with_suffix(".sha256")


def _is_whole(path: Path) -> bool:
    """Whether vectors are there as they were written; damaged ones are deleted, to be made again."""
    note = _note(path)
    if path.is_file() and note.is_file() and note.read_text(encoding="utf-8", errors="replace") == file_hash(path):
        return True
    path.unlink(missing_ok=True)
    return False


def _key(model: Gecko, texts: FieldTexts, field: str, task: str) -> str:
    """What decides the vectors of a field."""
    digest = hashlib.sha256(f"{model.identity()}\x1f{field}\x1f{task if field == 'queries' else ''}".encode())
    for row in _texts(texts, field):
        for part in (row.title or "", row.text):
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:24]


def _texts(texts: FieldTexts, field: str) -> Iterator[Row]:
    for document in texts.values():
        if field == "chunks":
            for text, title in zip(document.chunks, document.titles, strict=True):
                yield Row(text, title)
        else:
            yield from map(Row, document.distinct_titles if field == "title" else document.queries)


def _owners(texts: FieldTexts, field: str) -> np.ndarray:
    def count(name: str) -> int:
        document = texts[name]
        of_field: Sequence[str] = document.chunks
        if field != "chunks":
            of_field = document.distinct_titles if field == "title" else document.queries
        return len(of_field)

    return np.repeat(np.arange(len(texts)), [count(name) for name in texts])


def _mapped(path: Path, count: int, dim: int) -> np.ndarray:
    vectors = np.load(path, mmap_mode="r") if count else np.zeros((0, dim), dtype=np.float32)
    if vectors.shape != (count, dim):
        raise DataError(f"{path}: {vectors.shape[0]} vectors for {count} texts; delete it and run the command again")
    return vectors
