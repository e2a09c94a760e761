"""Models by name: a Gecko, any sentence-transformers model, BM25."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gecko_core.backbones import check_folder, check_modules, quiet
from gecko_core.encode import config_content, tokenizer_content
from gecko_core.errors import ConfigError, DataError, ModelError, first_line
from gecko_core.io import read_json
from gecko_core.lazy import import_without
from gecko_core.text_words import search_terms
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.in_training.retrieval import RetrievalScores
from gecko_eval.metrics import METRICS, ranking_metrics
from gecko_eval.mteb.encoder import GeckoEmbedder, TextEmbedder, model_meta
from gecko_eval.mteb.tasks import TaskPrompt

#: Robertson's weights in Lucene's variant, as most published BM25 numbers.
BM25_SETTINGS = {"method": "lucene", "k1": 1.2, "b": 0.75}
_TERMS = "search_terms 2"


class Bm25:
    """BM25 over title and text, English stop words removed, no stemming (bm25s), as a model of mteb.

    Its terms are those of :func:`~gecko_core.text_words.search_terms`: words, and pairs of characters in scripts that
    are written without spaces. It searches and has no vectors: retrieval and reranking only.
    """

    label, dims = "bm25", (0,)
    prompted = "none"

    def __init__(self) -> None:
        self.key = hashlib.sha256(repr((sorted(BM25_SETTINGS.items()), _TERMS)).encode()).hexdigest()
        self.precision = ""
        self.record: dict[str, Any] = {"trained": False}
        self.prompts: dict[str, TaskPrompt] = {}
        self._corpus: Any = None

    @property
    def mteb_model_meta(self) -> Any:
        """The description for mteb: a sparse model without dims."""
        return model_meta(self, None, model_type=["sparse"], similarity_fn_name=None, use_instructions=False)  # type: ignore[arg-type]

    def index(self, corpus: Any, **_: Any) -> None:
        """Keep the corpus for the search."""
        self._corpus = corpus

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **_: Any) -> dict[str, dict[str, float]]:
        """Query id -> document id -> BM25 score; documents that share no word with the query are left out."""
        titles = self._corpus["title"] if "title" in self._corpus.column_names else [""] * len(self._corpus)
        docs = [f"{title or ''} {text}".strip() for title, text in zip(titles, self._corpus["text"], strict=True)]
        doc_ids, query_ids = list(self._corpus["id"]), list(queries["id"])
        if top_ranked is not None:
            return self._rerank(docs, doc_ids, queries, top_ranked)
        indices, scores = bm25_search(docs, list(queries["text"]), top_k)
        return {
            query: {doc_ids[i]: float(s) for i, s in zip(row, row_scores, strict=True) if s > 0}
            for query, row, row_scores in zip(query_ids, indices, scores, strict=True)
        }

    def _rerank(
        self, docs: list[str], doc_ids: list[str], queries: Any, candidates: Any
    ) -> dict[str, dict[str, float]]:

        index = _build(docs)
        position = {doc: i for i, doc in enumerate(doc_ids)}
        out = {}
        for query, text in zip(queries["id"], queries["text"], strict=True):
            tokens = [token for token in _split([text], return_ids=False)[0] if token]
            scores = index.get_scores(tokens) if tokens else np.zeros(len(docs))
            out[query] = {doc: float(scores[position[doc]]) for doc in candidates.get(query, [])}
        return out


def bm25_search(docs: list[str], queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """(indices, scores), both (n_queries, min(k, n_docs)), best first; score 0 is that of documents not found."""
    index = _build(docs)
    tokens = _split(queries)
    documents, scores = index.retrieve(tokens, k=min(k, len(docs)), show_progress=False)
    return documents, scores


def _split(texts: Sequence[str], return_ids: bool = True) -> Any:
    """bm25s' own form of the texts' terms without English stop words."""
    bm25s = import_without("bm25s", "jax")
    terms = [" ".join(search_terms(text)) for text in texts]
    return bm25s.tokenize(terms, token_pattern=r"\S+", stopwords="en", return_ids=return_ids, show_progress=False)


def _build(docs: list[str]) -> Any:
    bm25s = import_without("bm25s", "jax")
    index = bm25s.BM25(**BM25_SETTINGS)
    tokens = _split(docs)
    if not any(len(ids) for ids in tokens.ids):
        raise DataError("bm25: no document holds a word that is not a stop word; there is nothing to search")
    index.index(tokens, show_progress=False)
    return index


def evaluate_bm25(data: RetrievalSet) -> RetrievalScores:
    """BM25 on a judged set, with the rankings and scores that ``gecko-eval run --model bm25`` has of it."""
    titles = data.titles or [""] * len(data.docs)
    docs = [f"{title} {text}".strip() for title, text in zip(titles, data.docs, strict=True)]
    found = zip(data.query_ids, *bm25_search(docs, list(data.queries), 1000), strict=True)  # mteb asks for as many
    rankings = []
    for query, rows, scores in found:
        # trec_eval's order: of equal scores the larger id comes first.
        ranked = sorted(((s, data.doc_ids[i]) for i, s in zip(rows, scores, strict=True) if s > 0), reverse=True)
        rankings.append([doc for _, doc in ranked if not (data.ignore_identical_ids and doc == query)])
    per_query = ranking_metrics(rankings, data.judgements)
    return RetrievalScores(**{m: float(per_query[m].mean()) for m in METRICS}, per_query=per_query)


class SentenceTransformerEmbedder:
    """Any sentence-transformers model, with the prompts its own configuration gives to mteb's tasks."""

    def __init__(
        self, name: str, label: str, progress: bool = False, batch_size: int = 64, device: str | None = None
    ) -> None:
        from sentence_transformers import SentenceTransformer

        if Path(name).is_dir():
            check_folder(Path(name))
        try:
            with quiet():
                self.model = SentenceTransformer(name, device=device)
            check_modules(self.model, name, optional="pooler")  # for which mean pooling has no use
        except ModelError:
            raise
        except Exception as error:  # whatever a broken folder makes of some library
            raise ModelError(f"{name}: sentence-transformers cannot load it ({first_line(error)})") from error
        self.similarity = similarity_of(self.model, name)
        self.label, self.progress, self.batch_size = label, progress, batch_size
        self.prompted = "the model's own"
        # Renamed in 6.x; older releases know the old name only.
        width = getattr(self.model, "get_embedding_dimension", None) or self.model.get_sentence_embedding_dimension
        self.dim = int(width() or 0)
        self.dims: tuple[int, ...] = (self.dim,)
        self.record: dict[str, Any] = {}
        self.prompts: dict[str, TaskPrompt] = {}
        self.precision = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        measure = () if self.similarity == "cosine" else (self.similarity,)  # the cache's vectors are normalised or not
        what = (self.model.prompts, self.model.max_seq_length, *measure, *_contents(self.model))
        digest = hashlib.sha256(repr(what).encode())
        for key, tensor in sorted(self.model.state_dict().items()):
            digest.update(key.encode() + tensor.detach().cpu().float().numpy().tobytes())
        self.key = digest.hexdigest()

    def with_prompts(self, texts: list[str], titles: list[str] | None, task: Any, side: str | None) -> list[str]:
        """See ``TextEmbedder``."""
        from mteb.models.abs_encoder import get_prompt_name
        from mteb.types import PromptType

        name = get_prompt_name(self.model.prompts, task, PromptType(side) if side else None)
        prompt = self.model.prompts.get(name or self.model.default_prompt_name or "", "")
        if titles is not None:
            texts = [f"{title} {text}".strip() for title, text in zip(titles, texts, strict=True)]
        return [prompt + text for text in texts]

    def embed(self, texts: list[str]) -> np.ndarray:
        """See ``TextEmbedder``."""
        # prompt="": the text has its prompt already, and the model's default prompt must not come on top.
        return np.asarray(
            self.model.encode(
                texts,
                prompt="",
                batch_size=self.batch_size,
                normalize_embeddings=self.similarity == "cosine",
                show_progress_bar=self.progress,
            ),
            dtype=np.float32,
        )


def _contents(model: Any) -> Iterator[Any]:
    """What decides a sentence-transformers model's vectors beside its weights: modules, configurations, tokenizer."""
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            yield sorted(config_content(module.config).items(), key=str)
        elif hasattr(module, "get_config_dict"):
            yield type(module).__name__, sorted(module.get_config_dict().items(), key=str)
    tokenizer = getattr(model, "tokenizer", None)  # models of other things than texts have none
    if hasattr(tokenizer, "get_vocab"):
        yield tokenizer_content(tokenizer)


def similarity_of(model: Any, name: str) -> Literal["cosine", "dot"]:
    """How a sentence-transformers model says that its vectors are compared: the measure that mteb scores it by.

    Args:
        model: the SentenceTransformer.
        name: what messages call it.

    Raises:
        ModelError: by a distance, which is not computed here.
    """
    measure = str(getattr(model.similarity_fn_name, "value", model.similarity_fn_name) or "cosine")
    if measure == "cosine":
        return "cosine"
    if measure == "dot":
        return "dot"
    raise ModelError(
        f"{name}: similarity_fn_name is {measure!r}; only cosine and dot are computed here, use mteb itself"
    )


def load_model(
    name: str, *, device: str | None = None, dtype: str | None = "float32", progress: bool = False
) -> TextEmbedder | Bm25:
    """Load a model.

    Args:
        name: ``bm25``; ``st:NAME`` for a sentence-transformers model as it is; else a Gecko's folder or name.
        device: where it runs; the best there is by default.
        dtype: of a Gecko's weights and products. float32 gives scores that compare with public ones to the last
            digit; None leaves it to the model, which takes bf16 products where the device has them (faster, some
            hundredths of a point off).
        progress: whether bars are shown while it encodes.

    Raises:
        ModelError: no such model, or one that cannot be loaded.
        ConfigError: a ``dtype`` for a model that is no Gecko.
    """
    if (name == "bm25" or name.startswith("st:")) and dtype not in (None, "float32"):
        raise ConfigError(f"{name}: dtype {dtype} is for models of gecko-core; leave it out (--dtype) for this one")
    if name == "bm25":
        return Bm25()
    label = label_of(name.removeprefix("st:"))
    if name.startswith("st:"):
        from gecko_core.folder import resolve

        resolved = resolve(name.removeprefix("st:"))
        return SentenceTransformerEmbedder(str(resolved.path or resolved.hub_id), label, progress, device=device)
    from gecko_core import Gecko

    return GeckoEmbedder(
        Gecko.from_pretrained(name, device=device, dtype=dtype), label, progress, record=training_record(name)
    )


def label_of(name: str) -> str:
    """What a model is called in tables: the last part of its name.

    A folder called ``model``, as gecko-train leaves one in each run, goes by the folder that it is in.
    """
    path = Path(name)
    if path.is_dir():
        path = path.resolve()
        path = path.parent if path.name == "model" else path
    return path.name or name


def training_record(name: str) -> dict[str, Any]:
    """What the model's gecko.json says about its training; empty where it says nothing.

    Raises:
        ModelError: the file does not hold a JSON object.
    """
    from gecko_core.folder import resolve

    path = resolve(name).path
    if path is None or not (path / "gecko.json").is_file():
        return {}
    record = read_json(path / "gecko.json", error=ModelError).get("record", {})
    return record if isinstance(record, dict) else {}
