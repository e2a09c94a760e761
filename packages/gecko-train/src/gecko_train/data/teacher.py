"""A teacher model's vectors of the training texts: in the teacher's own prompts, computed once, kept on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import DataError, ModelError
from gecko_core.io import PartList, make_progress, read_json, whole_file, write_json
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import RowSet
from gecko_train.data.texts import block_texts, row_texts

if TYPE_CHECKING:
    from gecko_core import Gecko

_CHUNK = {"cpu": 128}  # texts that are encoded at a time, between two words about progress; 2,048 elsewhere
_PART, _SECONDS = 8_192, 30.0  # texts, and time, after which a part is written: what a killed process loses, at most
_CURE = "make room, or name another folder in teacher_cache, and start again: what is there is not computed again"


class TeacherVectors:
    """Vectors of a teacher by text. Also applies the teacher's prompts, as a ``Formatter``.

    Vectors are kept as float16 (rounding changes a cosine by about 1e-4) in parts of a folder that is named by what
    decides the teacher's vectors, under a hash of the exact text. Reading maps them into memory; a part that is not
    what was written is computed again.

    Args:
        model: the teacher.
        folder: where vectors are kept; several teachers may share it.
        console: a rich console to show progress on.
        rank: this process, of ``world_size``; each computes and writes a share.
        world_size: number of processes.
    """

    def __init__(self, model: Gecko, folder: str | Path, console: Any = None, *, rank: int = 0, world_size: int = 1):
        self.model, self.rank, self.world_size = model, rank, world_size
        self.folder = Path(folder) / model.identity()[:16]
        self._console = console
        self._read()

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.model.dim

    def format_queries(self, texts: Sequence[str], task: str) -> list[str]:
        """Texts in the teacher's query format."""
        return self.model.format_queries(texts, task)

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> list[str]:
        """Texts in the teacher's document format."""
        return self.model.format_documents(texts, titles)

    def add(self, texts: Iterable[str], wait: Callable[[], object] = lambda: None) -> None:
        """Compute the vectors of texts that are not there, part by part; a killed process goes on where it was.

        Args:
            texts: formatted texts.
            wait: returns when every rank has called it.

        Raises:
            DataError: a part cannot be written.
        """
        missing = self.missing(texts)
        own = list(missing.items())[self.rank :: self.world_size]
        if own:
            self._compute(own)
        if missing:
            wait()
            self._read()

    def missing(self, texts: Iterable[str]) -> dict[int, str]:
        """The texts whose vectors are not there, each once, by their keys."""
        keyed = ((text_key(text), text) for text in texts)
        return {key: text for key, text in keyed if self._find(key) is None}

    def _compute(self, own: Sequence[tuple[int, str]]) -> None:
        """Encode and write. A process that goes on begins at the end of a chunk, and so encodes the same ones."""
        progress = make_progress(True, self._console)
        progress.start("teacher's vectors", len(own), 0, "texts")
        size, begun, vectors, first = _CHUNK.get(self.model.device.type, 2_048), time.monotonic(), [], 0
        for start in range(0, len(own), size):
            chunk = own[start : start + size]
            try:
                vectors.append(self.model.encode([text for _, text in chunk], truncate_dim=self.dim))
            except ModelError as error:
                raise ModelError(f"the teacher ({self.model.base_model or 'its folder'}): {error}") from None
            end = start + len(chunk)
            if end == len(own) or end - first >= _PART or time.monotonic() - begun >= _SECONDS:
                self._write(np.array([key for key, _ in own[first:end]]), np.concatenate(vectors))
                begun, vectors, first = time.monotonic(), [], end
            progress.advance(len(chunk))
        progress.finish()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:  # -> (n, E) float32
        """Vectors of texts; of those that were not added, computed now and not kept."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        unknown = []
        for number, text in enumerate(texts):
            place = self._find(text_key(text))
            if place is None:
                unknown.append(number)
            else:
                part, row = place
                vectors[number] = self._parts[part][row]
        if unknown:
            vectors[unknown] = self.model.encode([texts[number] for number in unknown], truncate_dim=self.dim)
        return vectors

    def _find(self, key: int) -> tuple[int, int] | None:
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        flat = int(self._order[place])
        part = int(np.searchsorted(self._ends, flat, side="right"))
        return part, flat - (int(self._ends[part - 1]) if part else 0)

    def _read(self) -> None:
        self._parts: list[np.ndarray] = []
        keys = [np.empty(0, dtype=np.int64)]
        for note in sorted(self.folder.glob("*.json")):  # written after keys and vectors
            part = self._sound(note)
            if part is not None:
                keys.append(part[0])
                self._parts.append(part[1])
        self._ends = np.cumsum([len(part) for part in self._parts])
        together = np.concatenate(keys)
        self._order = np.argsort(together, kind="stable")
        self._keys = together[self._order]

    def _sound(self, note: Path) -> tuple[np.ndarray, np.ndarray] | None:
        """Keys and vectors of a part; None where they are not what was written, and must be computed again."""
        names = [f"{note.stem}.keys.npy", f"{note.stem}.vectors.npy"]
        try:
            listed = PartList.from_json(self.folder, read_json(note))
            if any(listed.fault(name) for name in names):
                return None
            keys, vectors = np.load(self.folder / names[0]), np.load(self.folder / names[1], mmap_mode="r")
        except (DataError, OSError, ValueError, EOFError):
            return None
        return (keys, vectors) if len(keys) == len(vectors) and vectors.shape[1:] == (self.dim,) else None

    def _write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        # Named by what it holds: processes that share the folder never write different parts under one name.
        stem, listed = hashlib.sha256(keys.tobytes()).hexdigest()[:16], PartList(self.folder)
        for name, values in ((f"{stem}.vectors.npy", vectors.astype(np.float16)), (f"{stem}.keys.npy", keys)):
            with whole_file(self.folder / name, cure=_CURE) as file:
                np.save(file, values)
            listed.note(name, len(values))
        write_json(self.folder / f"{stem}.json", listed.to_json())


def teacher_texts(row_set: Any, teacher: TeacherVectors, documents: int) -> Iterator[str]:
    """All texts of a set in the teacher's formats, as training will ask for them; none of a stream.

    Args:
        row_set: a set of a mixture.
        teacher: applies the prompts.
        documents: per row.
    """
    if isinstance(row_set, BlockSet):
        yield from block_texts(row_set.queries(), row_set.documents(), teacher).texts
    elif isinstance(row_set, RowSet):
        for row in row_set:
            yield from row_texts(row, teacher, documents)


def text_key(text: str) -> int:
    """Identity of the exact text, as int64: case and white space count, since a teacher reads them."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
