"""Models that take no time, for benchmarks of everything around them."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gecko_fret.llm.protocol import Completion, Sampling, Scored, ScoreRequest, Usage, WriteRequest


class BagOfWords:
    """An embedder: words hashed into 256 dimensions."""

    prompt_style, max_seq_length, dim = "plain", 256, 256

    def weights_hash(self) -> str:
        return "bag of words"

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_queries(self, texts: Sequence[str], task: str = "", **options: Any) -> np.ndarray:
        return self._encode(texts)

    def encode_documents(self, texts: Sequence[str], titles: Any = None, **options: Any) -> np.ndarray:
        return self._encode(texts)


class WordsOfThePassage:
    """An LLM: writes some of the passage's words, and takes shared words for relevance."""

    name = fingerprint = "words of the passage"

    def __init__(self) -> None:
        self.usage = Usage()

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        return [" ".join(text.split()[:max_tokens]) for text in texts]

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        return [self._written(request) for request in requests]

    def _written(self, request: WriteRequest) -> Completion:
        words = re.findall(r"[a-z]{3,}", request.body.lower())
        step, start = 3 + request.seed % 5, request.seed % 11
        self.usage.prompt_tokens += len(words)
        self.usage.generated_tokens += 8
        return Completion("what about " + " ".join(words[start::step][:7]), -1.0, 8, True)

    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        return [self._scored(request) for request in requests]

    def _scored(self, request: ScoreRequest) -> Scored:
        passage, query = set(request.context.lower().split()), set(request.continuation.lower().split())
        noise = hashlib.blake2b((request.context + request.continuation).encode(), digest_size=1).digest()[0] / 255
        self.usage.prompt_tokens += len(passage)
        return Scored(-8.0 + 0.5 * len(passage & query) + noise, max(len(query), 1))

    def close(self) -> None:
        pass
