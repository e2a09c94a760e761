"""A model of words without weights, and finished FRet folders that are written by hand."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.text_words import text_words


class WordModel:
    """A text is the sum of its words' fixed random vectors, of unit length."""

    dim, truncate_dim, auto_bf16 = 96, None, False

    def __init__(self):
        self.encoded = 0

    def identity(self):
        return "words"

    def format_queries(self, texts, task="search result"):
        return list(texts)

    def format_documents(self, texts, titles=None):
        titles = titles or [None] * len(texts)
        return [f"{title or ''} {text}".strip() for title, text in zip(titles, texts, strict=True)]

    def encode(self, texts, **options):
        self.encoded += len(texts)
        vectors = np.zeros((len(texts), self.dim))
        for row, text in enumerate(texts):
            for word in text_words(text):
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
                vectors[row] += np.random.default_rng(seed).standard_normal(self.dim)
        return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)).astype(np.float32)

    def encode_queries(self, texts, task="search result", **options):
        return self.encode(self.format_queries(texts))

    def encode_documents(self, texts, titles=None, **options):
        return self.encode(self.format_documents(texts, titles))

    def truncate(self, vectors, dim):
        cut = vectors[:, :dim]
        return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)


@pytest.fixture
def word_model():
    return WordModel()


@pytest.fixture
def make_run(tmp_path):
    """Writes a finished FRet folder of (id, title, text, queries that judges accepted, queries that they rejected)."""

    def make(passages, name="run"):
        corpus, generated, rows = [], [], []
        for identifier, title, text, accepted, rejected in passages:
            corpus.append({"id": identifier, "title": title, "text": text})
            for query in [*accepted, *rejected]:
                key = f"{identifier}/{len(generated)}"
                generated.append({"id": key, "seed_id": identifier, "query": query})
                answer = identifier if query in accepted else None
                rows.append({"id": key, "query": query, "seed_id": identifier, "positive_id": answer})
        kinds = {
            "corpus": pa.schema([(column, pa.string()) for column in ("id", "title", "text")]),
            "generated": pa.schema([(column, pa.string()) for column in ("id", "seed_id", "query")]),
            "fret": pa.schema([(column, pa.string()) for column in ("id", "query", "seed_id", "positive_id")]),
        }
        for step, of_step in (("corpus", corpus), ("generated", generated), ("fret", rows)):
            path = tmp_path / name / step / "part-00000.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(of_step, schema=kinds[step]), path)
        manifest = {"complete": True, "config": {"embedder": {"model": "all-minilm-l6-v2"}}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / name

    return make


def topic_passages(own_queries, count=40):
    """Passages of five sentences, each with four of the passage's ten own words among common ones.

    Args:
        own_queries: whether the queries have the own words of their passage, or those of another one.
        count: of passages.
    """
    rng = np.random.default_rng(5)
    common = [f"common{i}" for i in range(30)]
    passages = []
    for number in range(count):
        own = [f"w{number}x{i}" for i in range(10)]
        sentences = []
        for start in range(0, 10, 2):
            words = [*(own[(start + i) % 10] for i in range(4)), *rng.choice(common, 24)]
            sentences.append(" ".join(rng.permutation(words)).capitalize() + ".")
        of = number if own_queries else (number + 7) % count
        queries = [" ".join(f"w{of}x{i}" for i in rng.permutation(10)) for _ in range(2)]
        passages.append((f"p{number}", f"heading {number}", " ".join(sentences), queries, []))
    return passages


@pytest.fixture
def topics():
    return topic_passages
