"""The corpus' embeddings as parts on disk: made once for a corpus and a model, resumable, read by memory map."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import whole_path
from gecko_fret.corpus.passages import Corpus


def embedding_key(corpus: Corpus, embedder: Any, part_size: int) -> str:
    """Name of the embeddings of this corpus by this model: they are shared by whoever has the same key."""
    parts = (corpus.hash, embedder.weights_hash(), embedder.prompt_style, embedder.max_seq_length, part_size)
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:24]


class CorpusEmbeddings:
    """Numbered .npy blocks of `part_size` passages each, float32, unit rows."""

    def __init__(self, folder: str | Path, corpus: Corpus, part_size: int):
        self.folder, self._corpus, self._part_size = Path(folder), corpus, part_size

    def __len__(self) -> int:
        return -(-len(self._corpus) // self._part_size)

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.npy"

    def exists(self, number: int) -> bool:
        return self.path(number).exists()

    def make(self, number: int, embedder: Any, batch_tokens: int | None) -> None:
        """Embeds block `number` and writes it atomically."""
        passages = self._corpus[number * self._part_size : (number + 1) * self._part_size]
        vectors = embedder.encode_documents(
            [passage.text for passage in passages], [passage.title for passage in passages], batch_tokens=batch_tokens
        )
        with whole_path(self.path(number)) as temporary, temporary.open("wb") as file:
            np.save(file, np.asarray(vectors, dtype=np.float32))

    def blocks(self) -> list[np.ndarray]:
        """All blocks, memory-mapped. Raises `DataError` for a missing or damaged one."""
        blocks = []
        for number in range(len(self)):
            try:
                block = np.load(self.path(number), mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                reason = (str(error).splitlines() or [""])[0]
                raise DataError(f"{self.path(number)}: cannot be read ({reason}); delete it and run again") from None
            blocks.append(block)
        return blocks
