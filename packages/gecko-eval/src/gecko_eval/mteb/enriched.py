"""Evaluation of texts that an LLM has enriched, in the place of those of a set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.enriched import EnrichedTexts, enriched_texts, read_enriched
from gecko_core.errors import ConfigError

if TYPE_CHECKING:
    from gecko_eval.baselines import Bm25
    from gecko_eval.mteb.encoder import TextEmbedder


class EnrichedEmbedder:
    """A text embedder that reads enriched texts, documents and queries alike; others as they are.

    Results are its own, embeddings of texts those of the embedder.
    """

    def __init__(self, base: TextEmbedder, enriched: EnrichedTexts) -> None:
        self.base, self.enriched = base, enriched
        self.label = f"{base.label}+enriched"
        self.key = hashlib.sha256(f"{base.key}\x1fenriched\x1f{enriched.fingerprint}".encode()).hexdigest()
        self.cache_key = getattr(base, "cache_key", base.key)
        self.precision, self.prompted, self.similarity = base.precision, base.prompted, base.similarity
        self.dim, self.dims, self.prompts = base.dim, base.dims, base.prompts
        self.record: dict[str, Any] = {**base.record, "enriched": {"texts": len(enriched)}}
        self.model = getattr(base, "model", None)
        self._seen = self._found = 0

    def with_prompts(self, texts: list[str], titles: list[str] | None, task: Any, side: str | None) -> list[str]:
        """See ``TextEmbedder``."""
        self._seen += len(texts)
        self._found += sum(text in self.enriched for text in texts)
        return self.base.with_prompts(enriched_texts(texts, self.enriched), titles, task, side)

    def embed(self, texts: list[str]) -> np.ndarray:
        """See ``TextEmbedder``."""
        return self.base.embed(texts)

    def take_notes(self) -> list[str]:
        """What share of the texts since the last call was enriched; texts are counted as often as they are read."""
        notes = [f"{self._found / self._seen:.0%} of the texts are enriched"] if self._seen else []
        self._seen = self._found = 0
        return notes


def with_enriched(embedder: TextEmbedder | Bm25, folders: Sequence[Path]) -> EnrichedEmbedder:
    """An embedder that reads the enriched texts of some folders.

    Args:
        embedder: the embedder.
        folders: see :func:`gecko_core.enriched.read_enriched`.

    Raises:
        ConfigError: a model that is given no texts.
        DataError: a folder cannot be read.
    """
    if embedder.dims == (0,):
        raise ConfigError(f"--enriched: {embedder.label} has no vectors of texts; name an embedding model")
    return EnrichedEmbedder(embedder, read_enriched(*folders))  # type: ignore[arg-type]
