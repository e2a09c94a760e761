"""Another embedder: the cosine of query and passage by a model that did not retrieve them, with its own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from gecko_core.backbones import check_folder, check_modules
from gecko_core.errors import ConfigError, ModelError, first_line
from gecko_core.folder import resolve
from gecko_fret.config import FretConfig, JudgeEmbedderConfig
from gecko_fret.judges.base import Batch, Judge, JudgeSetup
from gecko_fret.models import Models


class Encoder(Protocol):
    """Texts to rows of unit length."""

    def queries(self, texts: list[str], task: str) -> np.ndarray:
        """(n, dim) float32."""
        ...

    def passages(self, texts: list[str], titles: list[str | None]) -> np.ndarray:
        """(n, dim) float32."""
        ...


class OtherEmbedder(Judge):
    """Cosine by the embedder of ``score.embedder``, whose prompts are its own; a passage is encoded once per part."""

    name = "embedder"

    def __init__(self, setup: JudgeSetup):
        super().__init__(setup)
        config = setup.config.score.embedder
        self._encoder = setup.models.keep(f"judge embedder {config.model_dump_json()}", lambda: load_encoder(config))

    def judge(self, batch: Batch) -> Sequence[float]:
        """The cosine of every pair."""
        pairs = batch.pairs
        passages = list(dict.fromkeys((pair.passage.text, pair.passage.title) for pair in pairs))
        queries = list(dict.fromkeys((pair.kind, pair.query) for pair in pairs))
        rows = {passage: row for row, passage in enumerate(passages)}
        columns = {query: row for row, query in enumerate(queries)}
        documents = self._encoder.passages([text for text, _ in passages], [title for _, title in passages])
        vectors = self._queries(queries)
        return [
            float(documents[rows[pair.passage.text, pair.passage.title]] @ vectors[columns[pair.kind, pair.query]])
            for pair in pairs
        ]

    def _queries(self, queries: Sequence[tuple[str, str]]) -> dict[int, np.ndarray]:
        """Vectors by place, encoded kind by kind."""
        vectors: dict[int, np.ndarray] = {}
        for kind in dict.fromkeys(kind for kind, _ in queries):
            places = [place for place, (own, _) in enumerate(queries) if own == kind]
            encoded = self._encoder.queries([queries[place][1] for place in places], kind)
            vectors |= dict(zip(places, encoded, strict=True))
        return vectors

    @classmethod
    def check(cls, config: FretConfig) -> None:
        """It has a model."""
        if not config.score.embedder.model:
            raise ConfigError("score.judges: embedder needs score.embedder.model, another model than embedder.model")

    @classmethod
    def own_model(cls, config: FretConfig) -> tuple[str, str, str | None] | None:
        """See ``Judge``."""
        section = config.score.embedder
        return "score.embedder", str(section.model), section.device

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Its weights, library and prompts."""
        section = config.score.embedder
        return [models.weights_fingerprint(str(section.model)), section.model_dump(exclude={"model", "device"})]


def load_encoder(config: JudgeEmbedderConfig) -> Encoder:
    """Load the embedder of ``score.embedder``.

    Raises:
        ModelError: it cannot be loaded, or its library is not installed.
    """
    return _Gecko(config) if config.library == "gecko" else _SentenceTransformer(config)


class _Gecko:
    """A model that gecko_core reads, tasks and titles as it was trained on."""

    def __init__(self, config: JudgeEmbedderConfig):
        from gecko_core import Gecko

        try:
            self._model = Gecko.from_pretrained(str(config.model), device=config.device)
        except ModelError as error:
            raise ModelError(
                f"score.embedder: {error} (score.embedder.library=sentence-transformers reads more)"
            ) from None
        given = {"query": config.query_prompt, "document": config.document_prompt}
        if any(prompt is not None for prompt in given.values()):
            self._model.prompt_style = "plain"
            self._model.prompts |= {side: prompt for side, prompt in given.items() if prompt is not None}

    def queries(self, texts: list[str], task: str) -> np.ndarray:
        return np.asarray(self._model.encode_queries(texts, task=task))

    def passages(self, texts: list[str], titles: list[str | None]) -> np.ndarray:
        return np.asarray(self._model.encode_documents(texts, titles))


class _SentenceTransformer:
    """Any model of sentence-transformers; a title stands before its text."""

    def __init__(self, config: JudgeEmbedderConfig):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise ModelError(
                "score.embedder.library: sentence-transformers is not installed; pip install 'gecko-fret[rerank]'"
            ) from None
        resolved = resolve(str(config.model))
        if resolved.path is not None:
            check_folder(resolved.path)
        try:
            self._model = SentenceTransformer(str(resolved.path or resolved.hub_id), device=config.device)
        except Exception as error:  # whatever a damaged folder makes of the library
            raise ModelError(f"score.embedder: {config.model!r} cannot be loaded ({first_line(error)})") from None
        try:
            check_modules(self._model, config.model, optional="pooler.")
        except ModelError as error:
            raise ModelError(f"score.embedder: {error}") from None
        self._query_prompt, self._document_prompt = config.query_prompt, config.document_prompt

    def queries(self, texts: list[str], task: str) -> np.ndarray:
        encoded = self._model.encode_query(
            texts, prompt=self._query_prompt, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(encoded)

    def passages(self, texts: list[str], titles: list[str | None]) -> np.ndarray:
        shown = [f"{title} {text}" if title else text for text, title in zip(texts, titles, strict=True)]
        encoded = self._model.encode_document(
            shown, prompt=self._document_prompt, normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(encoded)
