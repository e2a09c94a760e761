"""A server on this machine that answers from a tiny model over both APIs, and misbehaves on request."""

import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.segments import SegmentTokenizer

#: What the server can do over its completions API unless a test takes something away.
COMPLETIONS = Capabilities("completions", echo=True, alternatives=20, logprobs=True)
CHAT = Capabilities("chat", alternatives=20, logprobs=True)

SOON = {"retry-after-ms": "10"}


def _spoil(fault, answer):
    """Log-probabilities that are null, or that do not fit the tokens."""
    shown = (answer.get("choices") or [{}])[0]
    logprobs = shown.get("logprobs") if isinstance(shown, dict) else None
    if fault == "null" and logprobs:
        logprobs |= {name: None for name in ("token_logprobs", "content") if name in logprobs}
    if fault == "misaligned" and logprobs:
        logprobs |= {"token_logprobs": logprobs.get("token_logprobs", [])[2:], "content": []}


class ApiServer:
    """Completions and chat with echo, logprobs, max_tokens, n, stop.

    Attributes:
        faults: used up one per request; see ``_misbehave``.
        refuses: parameters that are answered with HTTP 400; ``system`` is the system message.
        apis: those that there are.
        alternatives: most tokens of top_logprobs.
        says: what it answers in chats instead of what the model says: a text, or a list of tokens with alternatives.
        bodies, paths, headers: of the requests so far.
    """

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.faults, self.refuses, self.apis = [], set(), {"completions", "chat"}
        self.alternatives, self.most_choices, self.says, self.thinking, self.redirect_to = 20, 99, None, None, None
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

    @torch.no_grad()
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
        new, finish = [], "length"
        for _ in range(body["max_tokens"]):
            token = self.model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax().item()
            if token == self.tokenizer.eos_token_id and not body.get("echo"):
                finish = "stop"
                break
            new.append(token)
            if any(stop in self.tokenizer.decode(new) for stop in body.get("stop") or []):
                finish = "stop"
                break
        whole = [*ids, *new]
        return new, finish, self.model(torch.tensor([whole])).logits[0].log_softmax(-1)

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
        words = [self.tokenizer.decode([token]) for token in whole[first:]]
        choice = {"text": "".join(words), "finish_reason": finish}
        if body.get("logprobs") and self.alternatives:
            tops = [self._top(logprobs[at - 1], body["logprobs"]) if at else None for at in range(first, len(whole))]
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


@pytest.fixture
def server(tiny_model, word_tokenizer):
    pytest.importorskip("openai")
    server = ApiServer(tiny_model, word_tokenizer)
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def settings(server):
    """Makes the configuration of a client of the server."""

    def settings(**given):
        options = {"retry_pause_s": 0.01, "timeout_s": 5, "concurrency": 3} | given
        return LLMConfig(**{"backend": "openai", "model": "tiny", "url": server.url} | options)

    return settings


@pytest.fixture
def connect(settings, word_tokenizer):
    """Connects the backend; ``can``: what it knows of the server, None: it has to ask."""
    from gecko_fret.llm.openai import OpenAILLM

    made = []

    def connect(tokenizer=True, can=COMPLETIONS, **given):
        tokens = SegmentTokenizer(word_tokenizer, "tiny") if tokenizer else None
        made.append(OpenAILLM(settings(**given), tokens, can))
        return made[-1]

    yield connect
    for llm in made:
        llm.close()


@pytest.fixture
def chat():
    """What the server can do over its chat API unless a test takes something away."""
    return CHAT


@pytest.fixture
def completions():
    """The same of its completions API."""
    return COMPLETIONS


@pytest.fixture
def reference(tiny_model, word_tokenizer):
    from gecko_fret.llm.transformers import TransformersLLM

    return TransformersLLM(tiny_model, word_tokenizer, name="t", fingerprint="t", batch_tokens=4096, batch_rows=64)
