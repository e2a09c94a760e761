"""The HTTP backend against a server on this machine that answers from a tiny model, and misbehaves on request."""

import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from gecko_core.errors import BackendError
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.openai import OpenAILLM
from gecko_fret.llm.protocol import LLM, Sampling, ScoreRequest, WriteRequest
from gecko_fret.llm.segments import SegmentTokenizer
from gecko_fret.llm.transformers import TransformersLLM

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
REQUESTS = [
    ScoreRequest(PREFIX, "Passage: the dog ran far.\nQuery:", " what ran", "\nRelevance:"),
    ScoreRequest(PREFIX, "Passage: a cat.\nQuery:", " where is the dog", "\nRelevance:"),
    ScoreRequest(PREFIX, "Passage: the mat is on the mat.\nQuery:", " cat", "\nRelevance:"),
]
LABELS = [" 0", " 1", " 2", " 3", " 4"]


class CompletionServer:
    """Speaks enough of the completions API: echo, logprobs, max_tokens, stop; `faults` are used up one per request."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.faults, self.seen, self.keys = [], [], []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append(body)
                    outer.keys.append(self.headers.get("Authorization"))
                    fault = outer.faults.pop(0) if outer.faults else None
                    answer = json.dumps(outer.answer(body)).encode()
                outer.send(self, fault, answer)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def send(self, handler, fault, answer):
        if fault == "stall":
            time.sleep(1.5)
        if isinstance(fault, int):
            answer = b'{"error": "no such thing"}'
        if fault == "truncated":
            answer = answer[: len(answer) // 2]
        if fault == "empty":
            answer = b"{}"
        handler.send_response(fault if isinstance(fault, int) else 200)
        handler.send_header("Content-Length", str(len(answer) + (50 if fault == "cut" else 0)))
        handler.end_headers()
        handler.wfile.write(answer)
        if fault == "cut":
            handler.close_connection = True

    @torch.no_grad()
    def answer(self, body):
        prompt = body["prompt"]
        ids = prompt if isinstance(prompt, list) else self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
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
        logprobs = self.model(torch.tensor([whole])).logits[0].log_softmax(-1)
        values = [None, *(logprobs[i, whole[i + 1]].item() for i in range(len(whole) - 1))]
        shown = whole if body.get("echo") else new
        words = [self.tokenizer.decode([token]) for token in shown]
        offsets = [sum(map(len, words[:i])) for i in range(len(words))]
        best = logprobs[len(ids) - 1].topk(min(body.get("logprobs") or 1, 20))
        top = {self.tokenizer.decode([t]): v for v, t in zip(*(x.tolist() for x in best), strict=True)}
        return {
            "choices": [
                {
                    "text": "".join(words),
                    "finish_reason": finish,
                    "logprobs": {
                        "tokens": words,
                        "token_logprobs": values[len(whole) - len(shown) :],
                        "text_offset": offsets,
                        "top_logprobs": [top],
                    },
                }
            ],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": len(new)},
        }


@pytest.fixture
def server(tiny_model, word_tokenizer):
    pytest.importorskip("requests")
    server = CompletionServer(tiny_model, word_tokenizer)
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def connect(server, word_tokenizer):
    made = []

    def connect(tokenizer=True, **settings):
        options = {"retry_pause_s": 0.01, "timeout_s": 5, "concurrency": 3} | settings
        config = LLMConfig(backend="openai", model="tiny", url=server.url, **options)
        made.append(OpenAILLM(config, SegmentTokenizer(word_tokenizer, "tiny") if tokenizer else None))
        return made[-1]

    yield connect
    for llm in made:
        llm.close()


@pytest.fixture
def reference(tiny_model, word_tokenizer):
    return TransformersLLM(tiny_model, word_tokenizer, name="t", fingerprint="t", batch_tokens=4096, batch_rows=64)


@pytest.mark.parametrize("tokenizer", [True, False])
def test_scores_are_those_of_the_transformers_backend(connect, reference, tokenizer):
    llm = connect(tokenizer)
    assert isinstance(llm, LLM)
    for result, expected in zip(llm.score(REQUESTS, LABELS), reference.score(REQUESTS, LABELS), strict=True):
        assert result.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert result.tokens == expected.tokens
        assert result.labels == pytest.approx(expected.labels, abs=1e-4)


def test_blocks_are_sent_in_the_order_of_their_contexts(connect, reference, server):
    requests = [REQUESTS[0], REQUESTS[1], ScoreRequest(PREFIX, REQUESTS[0].context, " a mat", "\nRelevance:")]
    results = connect(concurrency=1).score(requests, blocks=True)
    expected = reference.score(requests)
    assert [row.logprob for row in results] == pytest.approx([row.logprob for row in expected], abs=1e-4)
    prompts = [server.tokenizer.decode(body["prompt"]) for body in server.seen]
    assert ["ran far" in prompt for prompt in prompts] == [True, True, False]


def test_labels_outside_the_likeliest_tokens_are_looked_up(connect, reference, server):
    llm = connect()
    llm._top_logprobs = 1
    result, expected = llm.score(REQUESTS, LABELS), reference.score(REQUESTS, LABELS)
    assert [row.labels for row in result] == [pytest.approx(row.labels, abs=1e-4) for row in expected]
    assert sum(body.get("echo", False) for body in server.seen) > len(REQUESTS)


def test_completions_stop_and_are_counted(connect, reference):
    requests = [WriteRequest(PREFIX, request.context, 3) for request in REQUESTS]
    sampling = Sampling(max_new_tokens=12, temperature=0, stop=("\n",))
    llm = connect()
    for result, expected in zip(llm.generate(requests, sampling), reference.generate(requests, sampling), strict=True):
        assert result.text.partition("\n")[0] == expected.text
        assert result.finished == expected.finished
    assert llm.usage.requests == 3
    assert llm.usage.generated_tokens > 0


def test_seeds_are_sent_unless_the_server_cannot_take_them(connect, server):
    sampling = Sampling(max_new_tokens=1)
    connect().generate([WriteRequest("", "a cat", 2**40 + 5)], sampling)
    connect(send_seed=False).generate([WriteRequest("", "a cat", 5)], sampling)
    assert server.seen[0]["seed"] == (2**40 + 5) % 2**31
    assert "seed" not in server.seen[1]


def test_faults_cost_time_but_never_a_row(connect, server, reference):
    server.faults = [500, "truncated", "cut", "empty", 429, "stall", 503, "truncated"]
    result = connect(timeout_s=0.7).score(REQUESTS, LABELS)
    expected = reference.score(REQUESTS, LABELS)
    assert [row.logprob for row in result] == [pytest.approx(row.logprob, abs=1e-4) for row in expected]
    assert not server.faults


def test_one_answer_in_five_broken_at_random_loses_no_row(connect, server, reference):
    chance = random.Random(5)
    kinds = [500, 429, 503, "truncated", "cut", "empty", "stall"]
    rows = 100
    server.faults = [chance.choice(kinds) if chance.random() < 0.2 else None for _ in range(4 * rows)]
    before = len(server.faults)
    requests = [REQUESTS[row % len(REQUESTS)] for row in range(rows)]
    result = connect(timeout_s=0.7, concurrency=8, retries=6).score(requests, LABELS)
    expected = reference.score(REQUESTS, LABELS)
    assert len(result) == rows
    for row, one in enumerate(result):
        assert one.logprob == pytest.approx(expected[row % len(REQUESTS)].logprob, abs=1e-4)
        assert one.labels == pytest.approx(expected[row % len(REQUESTS)].labels, abs=1e-4)
    assert before - len(server.faults) > rows  # some were asked again


@pytest.mark.parametrize(("fault", "last"), [(500, "HTTP 500"), ("truncated", "not whole JSON"), ("empty", "choices")])
def test_a_server_that_stays_broken_is_one_line(connect, server, fault, last):
    server.faults = [fault] * 50
    with pytest.raises(BackendError, match=rf"no answer in 3 attempts \(last: .*{last}") as caught:
        connect(retries=2).score(REQUESTS)
    assert "\n" not in str(caught.value)


def test_a_refusal_is_not_retried(connect, server):
    server.faults = [404]
    with pytest.raises(BackendError, match=r"refused .*HTTP 404: .*no such thing"):
        connect(concurrency=1).score(REQUESTS[:1])
    assert len(server.seen) == 1


def test_an_unreachable_server_is_one_line(word_tokenizer):
    config = LLMConfig(backend="openai", model="m", url="http://127.0.0.1:9", retries=1, retry_pause_s=0)
    with pytest.raises(BackendError, match=r"no answer in 2 attempts \(last: ConnectionError\)"):
        OpenAILLM(config).generate([WriteRequest("", "a", 0)], Sampling())


def test_key_is_in_the_header_and_in_no_message(connect, server, monkeypatch):
    monkeypatch.setenv("GECKO_TEST_KEY", "s3cret")
    llm = connect(api_key_env="GECKO_TEST_KEY", retries=0)
    llm.score(REQUESTS[:1])
    assert set(server.keys) == {"Bearer s3cret"}
    server.faults = [500]
    with pytest.raises(BackendError) as caught:
        llm.score(REQUESTS[:1])
    assert "s3cret" not in str(caught.value) + llm.fingerprint + repr(vars(llm._config))


def test_text_is_cut_by_characters_without_a_tokenizer(connect):
    llm = connect(tokenizer=False)
    assert llm.truncate(["one two three four five", "short"], 3) == ["one two", "short"]
    assert connect().truncate(["the cat sat on"], 3) == ["the cat"]
