"""A teacher model's vectors of the training texts: in the teacher's own prompts, computed once, kept on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import make_progress, whole_file
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import RowSet
from gecko_train.data.texts import block_texts, row_texts

if TYPE_CHECKING:
    from gecko_core import Gecko

_CHUNK = {"cpu": 128}  # texts that are encoded at a time, between two words about progress; 2,048 elsewhere
_PART, _SECONDS = 8_192, 30.0  # texts, and time, after which a part is written: what a killed process loses, at most
_CURE = "make room and start the same command again: what is there is not computed again"


class TeacherVectors:
    """Vectors of a teacher by text. Also applies the teacher's prompts, as a ``Formatter``.

    Vectors are kept as float16 (rounding changes a cosine by about 1e-4) in parts of a folder that is named by the
    teacher's weights and length, under a hash of the exact text. Reading maps them into memory.

    Args:
        model: the teacher.
        folder: where vectors are kept; several teachers may share it.
        console: a rich console to show progress on.
        rank: this process, of ``world_size``; each computes and writes a share.
        world_size: number of processes.
    """

    def __init__(self, model: Gecko, folder: str | Path, console: Any = None, *, rank: int = 0, world_size: int = 1):
        self.model, self.rank, self.world_size = model, rank, world_size
        settings = f"{model.weights_hash()} {model.max_seq_length} {model.do_lower_case}"
        self.folder = Path(folder) / hashlib.sha256(settings.encode()).hexdigest()[:16]
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
            vectors.append(self.model.encode([text for _, text in chunk]))
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
            vectors[unknown] = self.model.encode([texts[number] for number in unknown])
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
        for path in sorted(self.folder.glob("*.keys.npy")):  # written after its vectors
            try:
                keys.append(np.load(path))
                self._parts.append(np.load(_vectors_of(path), mmap_mode="r"))
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: damaged ({error}); remove {self.folder} and start again") from None
        self._ends = np.cumsum([len(part) for part in self._parts])
        together = np.concatenate(keys)
        self._order = np.argsort(together, kind="stable")
        self._keys = together[self._order]

    def _write(self, keys: np.ndarray, vectors: np.ndarray) -> None:
        # Named by what it holds: processes that share the folder never write different parts under one name.
        path = self.folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.keys.npy"
        for target, values in ((_vectors_of(path), vectors.astype(np.float16)), (path, keys)):
            with whole_file(target, cure=_CURE) as file:
                np.save(file, values)


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


def _vectors_of(keys: Path) -> Path:
    return keys.with_name(keys.name.replace(".keys.npy", ".vectors.npy"))
