"""Shared fixtures: a model that embeds by hashing words, small sets on disk, the development data where it is."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch


class WordHashModel:
    """What evaluation needs of a Gecko, without weights: a text is the sum of its words' fixed random vectors."""

    dim, dims, device, prompt_style = 64, (64, 16), torch.device("cpu"), "plain"

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.texts_encoded = 0
        self.largest_call = 0
        self._words: dict[str, np.ndarray] = {}

    def weights_hash(self) -> str:
        return hashlib.sha256(self.salt.encode()).hexdigest()

    def identity(self) -> str:
        return hashlib.sha256(f"{self.weights_hash()} {self.prompt_style}".encode()).hexdigest()

    def _word(self, word: str) -> np.ndarray:
        if word not in self._words:
            seed = int.from_bytes(hashlib.sha256((self.salt + word).encode()).digest()[:8], "little")
            self._words[word] = np.random.default_rng(seed).standard_normal(self.dim)
        return self._words[word]

    def format_queries(self, texts, task):
        return [f"task: {task} | query: {t}" if self.prompt_style == "gecko" else t for t in texts]

    def format_documents(self, texts, titles=None):
        titles = titles or [None] * len(texts)
        if self.prompt_style == "gecko":
            return [f"title: {title or 'none'} | text: {t}" for title, t in zip(titles, texts, strict=True)]
        return [f"{title or ''} {t}".strip() for title, t in zip(titles, texts, strict=True)]

    def encode(self, texts, task=None, truncate_dim=None, **_):
        if task is not None:
            texts = self.format_queries(texts, task)
        self.texts_encoded += len(texts)
        self.largest_call = max(self.largest_call, len(texts))
        rows = np.stack([sum((self._word(w) for w in t.lower().split()), np.zeros(self.dim)) + 1e-6 for t in texts])
        rows = rows[:, : truncate_dim or getattr(self, "truncate_dim", None)]
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_queries(self, texts, task="search result", **kwargs):
        return self.encode(self.format_queries(texts, task), **kwargs)

    def encode_documents(self, texts, titles=None, **kwargs):
        return self.encode(self.format_documents(texts, titles), **kwargs)


@pytest.fixture
def word_model() -> WordHashModel:
    return WordHashModel()


@pytest.fixture
def make_word_model():
    return WordHashModel


@pytest.fixture
def write_jsonl():
    def write(path: Path, rows: list[dict]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


WORDS = [
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "frost",
    "grove",
    "heron",
    "inlet",
    "jetty",
    "kelp",
    "larch",
    "maple",
    "north",
    "otter",
    "petal",
    "quartz",
    "reef",
]


@pytest.fixture
def beir_folder(tmp_path: Path, write_jsonl) -> Path:
    """60 documents, 12 judged queries, a 13th judged in the train split only."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "toy"
    docs = [" ".join(rng.choice(WORDS, 8)) for _ in range(60)]
    write_jsonl(
        folder / "corpus.jsonl",
        [{"_id": f"d{i}", "title": f"note {i}" if i % 2 else "", "text": text} for i, text in enumerate(docs)],
    )
    queries = [" ".join(docs[5 * i].split()[:4]) for i in range(12)] + ["amber only in train"]
    write_jsonl(folder / "queries.jsonl", [{"_id": f"q{i}", "text": text} for i, text in enumerate(queries)])
    (folder / "qrels").mkdir()
    rows = [f"q{i}\td{5 * i}\t2\nq{i}\td{5 * i + 1}\t1\nq{i}\td{5 * i + 2}\t0\n" for i in range(12)]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq12\td3\t1\n")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public sets; tests that want it are skipped where it is absent."""
    folder = os.environ.get("GECKO_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GECKO_DATA_DIR is not set")
    return Path(folder)


@pytest.fixture
def data_root(tmp_path: Path, beir_folder: Path, write_jsonl) -> Path:
    """One small folder of every kind beside the BEIR folder, and one with nothing to evaluate."""
    rng = np.random.default_rng(3)
    topics = {"sea": WORDS[:6], "land": WORDS[6:12], "sky": WORDS[12:]}

    def text(topic: str) -> str:
        return " ".join(rng.choice(topics[topic], 5))

    def pair() -> tuple[str, str, int]:
        topic = str(rng.choice(list(topics)))
        same = int(rng.integers(0, 2))
        other = text(topic) if same else text(next(t for t in topics if t != topic))
        return text(topic), other, same

    pairs = [pair() for _ in range(40)]
    write_jsonl(
        tmp_path / "similar" / "test.jsonl",
        [{"sentence1": a, "sentence2": b, "score": 5.0 * s + float(rng.random())} for a, b, s in pairs],
    )
    write_jsonl(tmp_path / "same" / "test.jsonl", [{"sentence1": a, "sentence2": b, "label": s} for a, b, s in pairs])
    labelled = [{"text": text(t), "label": t} for t in topics for _ in range(20)]
    write_jsonl(tmp_path / "topics" / "train.jsonl", labelled)
    write_jsonl(tmp_path / "topics" / "test.jsonl", [{"text": text(t), "label": t} for t in topics for _ in range(5)])
    write_jsonl(tmp_path / "groups" / "test.jsonl", labelled)
    write_jsonl(tmp_path / "only_training" / "train.jsonl", [{"question": "x"}])
    return tmp_path


@pytest.fixture
def embedder(word_model):
    from gecko_eval.mteb.encoder import GeckoEmbedder

    return GeckoEmbedder(word_model, "words")


@pytest.fixture
def make_public(monkeypatch):
    """Call it with a folder and a task: from then on the folder's content is the public content of that task."""
    from gecko_eval.mteb import public_content
    from gecko_eval.mteb.local import recognise

    table = []
    monkeypatch.setattr(public_content, "public_contents", lambda: tuple(table))

    def make(folder: Path, task: str, **fields):
        kind = recognise(folder)
        rows = list(kind.rows(folder))
        first, content = public_content.content_hash(rows[:1]), public_content.content_hash(rows)
        table.append(public_content.PublicContent(kind.name, first, content, task, **fields))

    return make
