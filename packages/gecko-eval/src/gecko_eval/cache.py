"""Embeddings on disk, known again by what was embedded and by which weights."""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gecko_core.errors import DataError, ModelError

# Earlier versions kept vectors without a checksum, in a table of another name.
_NO_ROOM = "make room"
_TABLE = "CREATE TABLE IF NOT EXISTS checked (key BLOB PRIMARY KEY, vector BLOB, checksum INTEGER) WITHOUT ROWID"


class EmbeddingCache:
    """Vectors of one model, keyed by the exact text the model saw (prompt included).

    One SQLite file per model. A killed run loses at most the chunk in flight, several processes may share the file,
    and memory does not grow with what is stored. A vector that is not what was written, which SQLite does not notice,
    is encoded again.

    Args:
        folder: where the file is kept; None for a temporary file that vanishes with the object, which is enough for
            all dims of a task to come from one encoding.
        model_key: hash of the weights and of all else that decides a vector (maximum length, pooling).
        chunk_size: texts encoded before they are written.

    Raises:
        DataError: the file cannot be made or opened.
    """

    def __init__(self, folder: Path | None, model_key: str, chunk_size: int = 4096) -> None:
        self.chunk_size = chunk_size
        self.hits = self.misses = 0
        self._width = 0  # of every vector, once one is known
        self._model = zlib.crc32(model_key.encode())
        self.path = folder / f"{model_key[:32]}.sqlite" if folder else None
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            # SQLite takes an empty name for "a private file that is deleted on close".
            self._db = sqlite3.connect(self.path or "", timeout=60)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            cure = _NO_ROOM if "full" in str(error) else "delete the file, name another folder with --cache"
            what = f"cannot keep embeddings there ({error}); {cure}, or give --no-cache"
            raise DataError(f"{self.path}: {what}") from error

    def embed(self, texts: Sequence[str], encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
        """(n, dim) float32 vectors of ``texts``; only those not seen before go through ``encode``, each once.

        Raises:
            ModelError: ``encode`` gives NaN or infinity; nothing of that chunk is kept.
            DataError: the file was damaged, or cannot be written to any more.
        """
        # Chunks are cut after sorting by length: batches stay even, and a killed run keeps all chunks but one.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        parts = [
            self._chunk([texts[i] for i in order[start : start + self.chunk_size]], encode)
            for start in range(0, len(texts), self.chunk_size)
        ]
        vectors = np.concatenate(parts)
        out = np.empty_like(vectors)
        out[order] = vectors
        return out

    def _chunk(self, texts: list[str], encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
        known = self._lookup(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.hits += len(texts) - len(missing)
        if missing:
            self.misses += len(missing)
            new = list(missing.values())
            vectors = np.ascontiguousarray(encode(new), dtype=np.float32)
            if self._width and vectors.shape[1] != self._width:
                raise DataError(f"{self.path}: the kept embeddings differ in length from the model's; delete the file")
            self._width = vectors.shape[1]
            _check_finite(vectors, new)
            fresh = dict(zip(missing, vectors, strict=True))
            self._store(fresh)
            known.update(fresh)
        return np.stack([known[key] for key in keys])

    def _store(self, fresh: dict[bytes, np.ndarray]) -> None:
        rows = [(key, vector.tobytes(), self._checksum(key, vector.tobytes())) for key, vector in fresh.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO checked VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: {self._cure(error)}") from error

    def _lookup(self, keys: list[bytes]) -> dict[bytes, np.ndarray]:
        known = {}
        try:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                query = f"SELECT key, vector, checksum FROM checked WHERE key IN ({','.join('?' * len(some))})"
                rows = self._db.execute(query, some)
                for key, blob, checksum in rows:
                    if isinstance(blob, bytes) and self._checksum(key, blob) == checksum:
                        known[key] = np.frombuffer(blob, dtype=np.float32)
        except sqlite3.OperationalError as error:
            raise DataError(f"{self.path}: {self._cure(error)}") from error
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise DataError(f"{self.path}: the kept embeddings cannot be read ({error}); delete the file") from error
        for vector in known.values():
            self._width = self._width or len(vector)
            if len(vector) != self._width:
                raise DataError(f"{self.path}: the kept embeddings differ in length; delete the file")
        return known

    @staticmethod
    def _cure(error: sqlite3.Error) -> str:
        if "locked" in str(error):
            return "another program holds it for over a minute; wait for it, or give --no-cache"
        cure = _NO_ROOM if "full" in str(error) else "delete the file"
        return f"the kept embeddings cannot be used ({error}); {cure}, or give --no-cache"

    def _checksum(self, key: bytes, blob: bytes) -> int:
        """Of a vector, and of which model and text it is: files that were exchanged say so."""
        return zlib.crc32(blob, zlib.crc32(key, self._model))

    def close(self) -> None:
        """Close the file; the cache cannot be used afterwards."""
        self._db.close()


def _check_finite(vectors: np.ndarray, texts: list[str]) -> None:
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        first = texts[broken[0]]
        shown = first if len(first) <= 60 else first[:57] + "..."
        raise ModelError(
            f"the model gives NaN or infinity for {len(broken)} of {len(texts)} texts (the first is {shown!r}); its "
            "weights are broken, or need --dtype float32"
        )
