"""A Gecko, or any text embedder, as a model of mteb: the paper's prompts, and one encoding for all dims."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from gecko_core.fields import best_of_documents
from gecko_core.search import TopK
from gecko_core.vectors import unit_vectors
from gecko_eval.cache import EmbeddingCache
from gecko_eval.metrics import tie_order
from gecko_eval.mteb.fields import FieldsEmbedder
from gecko_eval.mteb.tasks import TaskPrompt, prompt_fingerprint, task_prompt

if TYPE_CHECKING:
    from gecko_core import Gecko


class TextEmbedder(Protocol):
    """What evaluation needs of a model: the prompt for a task, and vectors of texts.

    Attributes:
        label: what results call it.
        key: identifies weights, prompts and precision: equal keys, equal vectors.
        precision: the number format of the matrix products.
        prompted: what the model has instead of the paper's table of prompts; "" where it follows the table.
        dim: the width of its vectors.
        dims: the Matryoshka dims it was trained for.
        record: what its folder says about its training.
        prompts: prompts by task name, for data that the paper's table does not know.
        similarity: how its vectors are compared.
    """

    label: str
    key: str
    precision: str
    prompted: str
    dim: int
    dims: tuple[int, ...]
    record: dict[str, Any]
    prompts: dict[str, TaskPrompt]
    similarity: Literal["cosine", "dot"]

    def with_prompts(self, texts: list[str], titles: list[str] | None, task: Any, side: str | None) -> list[str]:
        """The texts with the prompt of a task.

        Args:
            texts: the bare texts.
            titles: their titles, for documents that have some.
            task: mteb's task metadata.
            side: "query", "document", or None for a task without sides.
        """
        ...

    def embed(self, texts: list[str]) -> np.ndarray:
        """(n, dim) float32, of unit length where they are compared by cosine, of texts that have their prompt."""
        ...


class GeckoEmbedder:
    """A Gecko under the prompts of the paper's Table 9, in the style (gecko or plain) the model was made for."""

    similarity: Literal["cosine", "dot"] = "cosine"

    def __init__(self, model: Gecko, label: str, progress: bool = False, record: dict[str, Any] | None = None) -> None:
        self.model, self.label, self.progress = model, label, progress
        self.dim, self.dims = model.dim, tuple(model.dims)
        self._whole: dict[str, Any] = {}
        if short := getattr(model, "truncate_dim", None):  # by default it gives so many components, here all
            self.dims, self._whole = (short,), {"truncate_dim": model.dim}
        self.record = record or {}
        self.prompts: dict[str, TaskPrompt] = {}
        self.precision = _precision(model)
        self.prompted = "the model's own" if model.prompt_style == "plain" else ""
        what = (model.identity(), self.precision, prompt_fingerprint())
        self.key = hashlib.sha256(repr(what).encode()).hexdigest()

    def with_prompts(self, texts: list[str], titles: list[str] | None, task: Any, side: str | None) -> list[str]:
        """See ``TextEmbedder``."""
        prompt = self.prompts.get(task.name) or task_prompt(task.name, task.type)
        if side == "document" and not prompt.symmetric:
            return self.model.format_documents(texts, titles)
        if titles is not None:
            texts = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
        return self.model.format_queries(texts, prompt.task)

    def embed(self, texts: list[str]) -> np.ndarray:
        """See ``TextEmbedder``."""
        return np.asarray(self.model.encode(texts, task=None, progress=self.progress, **self._whole), dtype=np.float32)


def _precision(model: Gecko) -> str:
    """The number format a model's matrix products are computed in here; it decides the last digits of every vector."""
    stored = str(getattr(model, "dtype", torch.float32)).removeprefix("torch.")
    if hasattr(model, "int8"):
        from gecko_core.encode import product_format

        if products := product_format(model):
            return f"{products} products of {stored} weights"
    return stored


@dataclass
class SharedSearch:
    """Rankings of all dims, filled by the first dim that asks and read by the others: one pass over the corpus."""

    key: tuple[str, ...] | None = None
    by_dim: dict[int, dict[str, dict[str, float]]] | None = None


class MtebEncoder:
    """One embedder at one dim, as mteb wants it (its EncoderProtocol and SearchProtocol).

    Encoders of the same embedder at other dims share ``cache`` and ``shared``, so each text is encoded once. Search is
    exact, in chunks, with trec_eval's tie rule; only ``top_k`` results per query and dim are kept.

    mteb files results under model name and revision and hands them back on a match; both carry the hash of weights,
    prompts and dim here, so no checkpoint is ever given another one's score.
    """

    def __init__(
        self,
        embedder: TextEmbedder,
        dim: int,
        *,
        dims: Sequence[int] | None = None,
        cache: EmbeddingCache | None = None,
        shared: SharedSearch | None = None,
        chunk_size: int = 8192,
    ) -> None:
        self.embedder, self.dim, self.chunk_size = embedder, dim, chunk_size
        self.dims = tuple(dims or (dim,))
        self.cache = cache or EmbeddingCache(None, embedder.key)
        self.shared = shared or SharedSearch()
        self.by_cosine = embedder.similarity == "cosine"
        self.mteb_model_meta = model_meta(embedder, dim, similarity_fn_name=embedder.similarity)
        self._corpus: Any = None

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **_: Any
    ) -> np.ndarray:
        """(n, dim) vectors of a data loader's texts; documents keep their own titles."""
        return self._cut(self._full(*_texts(inputs), task_metadata, prompt_type))

    def _full(self, texts: list[str], titles: list[str] | None, task: Any, prompt_type: Any) -> np.ndarray:
        side = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        return self.cache.embed(self.embedder.with_prompts(texts, titles, task, side), self.embedder.embed)

    def _cut(self, vectors: np.ndarray, dim: int | None = None) -> np.ndarray:
        dim = dim or self.dim
        if dim == vectors.shape[1]:
            return vectors
        return unit_vectors(vectors, "vectors", dim).numpy() if self.by_cosine else vectors[:, :dim]

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine (or inner product) of every pair, (n, m)."""
        from mteb.similarity_functions import cos_sim, dot_score

        return (cos_sim if self.by_cosine else dot_score)(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosine (or inner product) of row i with row i, (n,)."""
        from mteb.similarity_functions import pairwise_cos_sim, pairwise_dot_score

        return (pairwise_cos_sim if self.by_cosine else pairwise_dot_score)(embeddings1, embeddings2)

    def index(self, corpus: Any, **_: Any) -> None:
        """Keep the corpus; it is encoded during search, chunk by chunk."""
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Any = None,
        top_ranked: Any = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Query id -> document id -> similarity, of the best ``top_k`` documents (or of the given candidates)."""
        if top_ranked is not None:
            return self._rerank(
                queries,
                task_metadata=task_metadata,
                hf_split=hf_split,
                hf_subset=hf_subset,
                top_k=top_k,
                encode_kwargs=encode_kwargs or {},
                top_ranked=top_ranked,
                num_proc=num_proc,
            )
        key = (task_metadata.name, hf_split, hf_subset, str(top_k))
        if self.shared.key != key or self.shared.by_dim is None:
            self.shared.by_dim = self._search_all_dims(queries, task_metadata, top_k)
            self.shared.key = key
        return {query: dict(ranking) for query, ranking in self.shared.by_dim[self.dim].items()}

    def _search_all_dims(self, queries: Any, task: Any, top_k: int) -> dict[int, dict[str, dict[str, float]]]:
        from mteb._create_dataloaders import create_dataloader  # noqa: PLC2701 (mteb has no public one)
        from mteb.types import PromptType

        loader = create_dataloader(queries, task_metadata=task, prompt_type=PromptType.query, batch_size=512)
        vectors = self._full(*_texts(loader), task, PromptType.query)
        query_ids, doc_ids = list(queries["id"]), list(self._corpus["id"])
        owners = self._owners(doc_ids, task)
        # Of the best chunks, so many that as many documents are among them.
        k = top_k * int(np.bincount(owners).max())
        best = {dim: TopK(self._cut(vectors, dim), k, ties=tie_order(doc_ids)[owners]) for dim in self.dims}
        for first in range(0, len(doc_ids), self.chunk_size):
            rows = self._corpus.select(range(first, min(first + self.chunk_size, len(doc_ids))))
            loader = create_dataloader(rows, task_metadata=task, prompt_type=PromptType.document, batch_size=512)
            texts, titles = _texts(loader)
            for dim, documents in self._documents(list(rows["id"]), texts, titles, task).items():
                best[dim].add(documents)
        found = {dim: best_of_documents(best[dim].result(), owners, top_k) for dim in self.dims}
        return {dim: _named(query_ids, doc_ids, *found[dim]) for dim in self.dims}

    def _owners(self, doc_ids: list[str], task: Any) -> np.ndarray:
        """The document of every vector that is searched: one vector a document, or one a chunk."""
        if not isinstance(self.embedder, FieldsEmbedder):
            return np.arange(len(doc_ids))
        self.embedder.check_documents(task.name, doc_ids)
        return np.repeat(np.arange(len(doc_ids)), self.embedder.fields.chunk_counts(doc_ids))

    def _documents(
        self, ids: list[str], texts: list[str], titles: list[str] | None, task: Any
    ) -> dict[int, np.ndarray]:
        """The vectors to search of some documents, by dim."""
        from mteb.types import PromptType

        side = PromptType.document
        if not isinstance(self.embedder, FieldsEmbedder):
            vectors = self._full(texts, titles, task, side)
            return {dim: self._cut(vectors, dim) for dim in self.dims}
        named, fields = titles or [""] * len(texts), self.embedder.fields
        self.embedder.check_texts(task.name, ids, texts, named)
        rows = fields.rows(ids, texts, named)
        chunks = self._full([text for text, _ in rows.chunks], [title for _, title in rows.chunks], task, side)
        none = np.zeros((0, chunks.shape[1]), dtype=np.float32)
        of_titles = self._full(rows.titles, None, task, side) if rows.titles else none
        of_queries = self._full(rows.queries, None, task, PromptType.query) if rows.queries else none
        cut = self._cut
        return {
            dim: fields.combined(rows, cut(chunks, dim), cut(of_titles, dim), cut(of_queries, dim)) for dim in self.dims
        }

    def _rerank(self, queries: Any, **kwargs: Any) -> dict[str, dict[str, float]]:
        from mteb.models.search_wrappers import SearchEncoderWrapper

        wrapper = SearchEncoderWrapper(self)
        wrapper.index(
            self._corpus, **{k: kwargs[k] for k in ("task_metadata", "hf_split", "hf_subset", "encode_kwargs")}
        )
        return wrapper.search(queries, **kwargs)


def _texts(loader: Any) -> tuple[list[str], list[str] | None]:
    """All texts of a data loader, with titles where the rows are documents that have some."""
    texts: list[str] = []
    titles: list[str] = []
    for batch in loader:
        if "body" in batch and "title" in batch:
            pairs = zip(batch["body"], batch["title"], strict=True)
            texts.extend(text if title else text.strip() for text, title in pairs)  # as mteb does without titles
            titles.extend(batch["title"])
        else:
            texts.extend(batch["text"])
            titles.extend([""] * len(batch["text"]))
    return texts, titles if any(titles) else None


def _named(
    query_ids: list[str], doc_ids: list[str], indices: np.ndarray, scores: np.ndarray
) -> dict[str, dict[str, float]]:
    return {
        query: {doc_ids[i]: float(s) for i, s in zip(row, row_scores, strict=True)}
        for query, row, row_scores in zip(query_ids, indices, scores, strict=True)
    }


def model_meta(embedder: TextEmbedder, dim: int | None, **change: Any) -> Any:
    """The model's description for mteb: ``gecko-eval/<label>-<hash>-d<dim>``, at a revision that is the full hash."""
    from mteb.models.model_meta import ModelMeta

    label = re.sub(r"[^A-Za-z0-9._-]+", "-", embedder.label).strip("-") or "model"
    revision = hashlib.sha256(f"{embedder.key}-{dim}".encode()).hexdigest()
    fields: dict[str, Any] = {
        "name": f"gecko-eval/{label}-{embedder.key[:12]}" + (f"-d{dim}" if dim else ""),
        "revision": revision,
        "loader": None,
        "release_date": None,
        "languages": None,
        "n_parameters": None,
        "memory_usage_mb": None,
        "max_tokens": None,
        "embed_dim": dim,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": [],
        "similarity_fn_name": "cosine",
        "use_instructions": True,
        "training_datasets": None,
        "modalities": ["text"],
    }
    return ModelMeta(**{**fields, **change})


def make_encoders(
    embedder: TextEmbedder, dims: Sequence[int], cache: EmbeddingCache | None = None
) -> dict[int, MtebEncoder]:
    """One encoder per dim, sharing everything that does not depend on the dim."""
    shared = SharedSearch()
    cache = cache or EmbeddingCache(None, embedder.key)
    return {dim: MtebEncoder(embedder, dim, dims=dims, cache=cache, shared=shared) for dim in dims}
