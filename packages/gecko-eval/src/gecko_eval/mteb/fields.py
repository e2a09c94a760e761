"""Evaluation with document-level vectors: documents with the titles and written queries of a FRet folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import FieldTexts, Missing, Queries, combine, parse_weights, read_fields, shown_weights

if TYPE_CHECKING:
    from gecko_eval.baselines import Bm25
    from gecko_eval.mteb.encoder import TextEmbedder


_ENOUGH = 10  # documents, to say that a folder is of another corpus
_BEGINNING = 60  # characters of a passage that are looked for


@dataclass(frozen=True)
class FieldRows:
    """The texts of some documents: of each field, and the document of each text, numbered from 0.

    A chunk is (text, title); the others are texts alone.
    """

    chunks: list[tuple[str, str]] = field(default_factory=list)
    chunk_documents: list[int] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    title_documents: list[int] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    query_documents: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class DocumentFields:
    """What stands beside the documents of a set.

    Attributes:
        texts: of the fields, by document id.
        weights: of the fields.
        missing: what stands in for a field that a document lacks, see :func:`gecko_core.fields.combine`.
    """

    texts: FieldTexts
    weights: dict[str, float]
    missing: Missing = "chunks"

    @property
    def key(self) -> str:
        """Changes with whatever decides the vectors, besides the model."""
        return repr((self.texts.fingerprint, sorted(self.weights.items()), self.missing))

    def chunk_counts(self, ids: Sequence[str]) -> np.ndarray:
        """How many vectors each document gets."""
        return np.array([len(self.texts[name].chunks) if name in self.texts else 1 for name in ids], dtype=np.int64)

    def known(self, ids: Sequence[str]) -> int:
        """How many of the documents have fields."""
        return sum(name in self.texts for name in ids)

    def rows(self, ids: Sequence[str], texts: Sequence[str], titles: Sequence[str]) -> FieldRows:
        """The texts of documents; one that was not cut into chunks has the set's own text and title."""
        rows = FieldRows()
        for number, (name, text, title) in enumerate(zip(ids, texts, titles, strict=True)):
            document = self.texts.get(name)
            chunks, own_titles = [(text, title)], [title] if title else []
            if document is not None and len(document.chunks) > 1:
                of_chunks = zip(document.chunks, document.titles, strict=True)
                chunks = [(chunk, chunk_title or "") for chunk, chunk_title in of_chunks]
                own_titles = document.distinct_titles
            queries = document.queries if document is not None else []
            rows.chunks.extend(chunks)
            rows.chunk_documents.extend([number] * len(chunks))
            rows.titles.extend(own_titles)
            rows.title_documents.extend([number] * len(own_titles))
            rows.queries.extend(queries)
            rows.query_documents.extend([number] * len(queries))
        return rows

    def combined(self, rows: FieldRows, chunks: np.ndarray, titles: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """(C, D) the vectors to search, of the vectors of the texts."""
        fields = {
            "title": (titles, np.array(rows.title_documents, dtype=np.int64)),
            "queries": (queries, np.array(rows.query_documents, dtype=np.int64)),
        }
        used = {name: weight for name, weight in self.weights.items() if weight}
        return combine(chunks, np.array(rows.chunk_documents, dtype=np.int64), fields, used, missing=self.missing)


class FieldsEmbedder:
    """A text embedder whose documents have fields: results are its own, embeddings of texts those of the embedder."""

    def __init__(self, base: TextEmbedder, fields: DocumentFields) -> None:
        self.base, self.fields = base, fields
        self.label = f"{base.label}+fields"
        self.key = hashlib.sha256(f"{base.key}\x1f{fields.key}".encode()).hexdigest()
        self.cache_key = getattr(base, "cache_key", base.key)
        self.precision, self.prompted, self.similarity = base.precision, base.prompted, base.similarity
        self.dim, self.dims, self.prompts = base.dim, base.dims, base.prompts
        self.record: dict[str, Any] = {
            **base.record,
            "fields": {"weights": shown_weights(fields.weights), "queries": fields.texts.queries},
        }
        self.model = getattr(base, "model", None)
        self._notes: list[str] = []

    def with_prompts(self, texts: list[str], titles: list[str] | None, task: Any, side: str | None) -> list[str]:
        """See ``TextEmbedder``."""
        return self.base.with_prompts(texts, titles, task, side)

    def embed(self, texts: list[str]) -> np.ndarray:
        """See ``TextEmbedder``."""
        return self.base.embed(texts)

    def check_documents(self, task: str, ids: Sequence[str]) -> None:
        """Note how many documents of a set have fields.

        Raises:
            DataError: none has.
        """
        known = self.fields.known(ids)
        if not known:
            raise DataError(
                f"{task}: none of its {len(ids)} documents is in {self.fields.texts.source}; build that folder of the "
                "set's own corpus, with its ids"
            )
        if known < len(ids):
            note = f"{known} of {len(ids)} documents have fields; the others go by their text"
            if note not in self._notes:
                self._notes.append(note)

    def check_texts(self, task: str, ids: Sequence[str], texts: Sequence[str], titles: Sequence[str]) -> None:
        """Note documents whose passages in the folder are not of their texts: ids of two corpora may be alike.

        Raises:
            DataError: it is so for most of at least ``_ENOUGH`` documents.
        """
        fields = self.fields.texts
        whole = ((fields.get(name), f"{title} {text}") for name, text, title in zip(ids, texts, titles, strict=True))
        stand = [_stands_in(document.chunks[0], text) for document, text in whole if document is not None]
        others = len(stand) - sum(stand)
        if not others:
            return
        where = f"{others} of {len(stand)} documents have other texts in {fields.source}"
        if len(stand) >= _ENOUGH and others > len(stand) / 2:
            raise DataError(f"{task}: {where}; build that folder of the set's own corpus")
        self._notes.append(where)

    def take_notes(self) -> list[str]:
        """What was noted since the last call, of the documents and by the embedder."""
        notes, self._notes = self._notes, []
        take = getattr(self.base, "take_notes", None)
        return [*notes, *(take() if take is not None else ())]


def _stands_in(passage: str, text: str) -> bool:
    """Whether a passage begins somewhere in a text, white space aside."""
    return " ".join(passage.split())[:_BEGINNING] in " ".join(text.split())


def with_fields(embedder: TextEmbedder | Bm25, run: Path, weights: str, queries: Queries) -> FieldsEmbedder:
    """An embedder whose documents have the fields of a FRet folder.

    Args:
        embedder: the embedder.
        run: the folder.
        weights: see :func:`gecko_core.fields.parse_weights`.
        queries: see :func:`gecko_core.fields.read_fields`.

    Raises:
        ConfigError: a model without vectors, or an option that cannot be used.
        DataError: the folder cannot be read.
    """
    if embedder.dims == (0,):
        raise ConfigError(f"--fields: {embedder.label} has no vectors to add; name an embedding model")
    return FieldsEmbedder(embedder, DocumentFields(read_fields(run, queries), parse_weights(weights)))  # type: ignore[arg-type]
