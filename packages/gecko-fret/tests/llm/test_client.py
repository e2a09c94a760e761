import asyncio
import gc
import gzip
import itertools
import json
import logging
import sys
import threading
import time
import traceback
from concurrent.futures import CancelledError
from email.utils import formatdate
from types import SimpleNamespace

import pytest

from gecko_core.errors import BackendError, ConfigError
from gecko_fret.llm.choices import read_choice
from gecko_fret.llm.client import ApiClient, Refused, prompt_tokens, read_key
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.pace import BudgetError, Spent
from gecko_fret.llm.places import Places
from gecko_fret.llm.protocol import Sampling, WriteRequest

pytest.importorskip("openai")
BODY = {"prompt": "a cat", "max_tokens": 2, "temperature": 0}


@pytest.fixture
def client(settings):
    made = []

    def client(**given):
        made.append(ApiClient(settings(**given)))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
def another_server(server, tiny_model, word_tokenizer):
    other = type(server)(tiny_model, word_tokenizer)
    yield other
    other.server.shutdown()
    other.server.server_close()


def text(answer):
    return read_choice(answer).text


def ask(client, *bodies, read=text):
    return client.run([client.ask("completions", body, read) for body in bodies])


def test_answers_come_in_order_and_concurrency_is_kept(client, server):
    server.pause = 0.03
    bodies = [BODY | {"prompt": prompt} for prompt in ("a cat", "the dog", "what is the mat") * 6]
    asked = client(concurrency=4)
    answers = ask(asked, *bodies)
    assert answers == answers[:3] * 6
    assert server.most_in_flight == 4


def test_a_request_that_waits_to_be_asked_again_keeps_no_place(client, server):
    """One request at a time: the others are answered while the first waits for as long as the server says."""
    server.faults = ["wait until"]
    bodies = [BODY | {"prompt": prompt} for prompt in ("a cat", "the dog", "what is the mat")]
    answers = ask(client(concurrency=1), *bodies)
    asked = [body["prompt"] for body in server.bodies]
    assert asked[0] == asked[3]
    assert len(set(asked[:3])) == 3
    assert answers == ask(client(), *bodies)


@pytest.mark.parametrize(
    "fault",
    [
        500,
        503,
        429,
        408,
        409,
        "stall",
        "drip",
        "cut",
        "truncated",
        "empty",
        "invalid utf-8",
        "other form",
        "wait",
        "wait until",
    ],
)
def test_every_fault_is_asked_again(client, server, fault):
    expected = ask(client(), BODY)
    server.faults = [fault]
    assert ask(client(timeout_s=1), BODY) == expected
    assert len(server.bodies) == 3
    assert server.bodies[1] == server.bodies[2]


@pytest.mark.parametrize("headers", [{}, {"Retry-After": formatdate(time.time() + 86_000, usegmt=True)}])
def test_a_long_wait_is_left_to_the_user(client, server, monkeypatch, headers):
    server.faults, misbehave = ["wait long"] * 9, server._misbehave

    def by_date(*asked):
        status, content, given = misbehave(*asked)
        return status, content, given | headers

    monkeypatch.setattr(server, "_misbehave", by_date)
    told = (
        r"HTTP 429, and the server asks to wait 8\d{4} s, longer than the 120 s that are waited at most; .*after that"
    )
    with pytest.raises(BackendError, match=told) as caught:
        ask(client(), BODY)
    assert "attempts" not in str(caught.value)  # one request was sent
    assert len(server.bodies) == 1


def test_a_wait_that_is_no_time_is_as_none(client, server, monkeypatch):
    for wait in ("soon", "inf", "nan", "Fri, 99 Foo"):
        answer = (429, b"{}", {"Retry-After": wait})
        monkeypatch.setattr(server, "_misbehave", lambda *_, answer=answer: answer)
        with pytest.raises(BackendError, match=rf"no answer in 1 attempts \(last: HTTP 429, .* after {wait}\)"):
            ask(client(retries=0), BODY)


def test_a_refusal_has_its_status_and_its_reason(client, server):
    server.refuses = {"temperature"}
    with pytest.raises(Refused, match=r"HTTP 400: .*unsupported: \['temperature'\]") as caught:
        ask(client(), BODY)
    assert caught.value.status == 400


def test_the_first_failure_ends_the_call(client, server):
    server.faults = [None, 404]
    with pytest.raises(BackendError, match="HTTP 404"):
        ask(client(concurrency=1), *[BODY] * 50)
    assert len(server.bodies) < 5
    assert ask(client(), BODY)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(client, server, another_server, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    server.faults, server.redirect_to = [status], f"{another_server.url}/completions?key=1"
    with pytest.raises(Refused, match=r"redirects to http://127.0.0.1:\d+/v1/completions; set llm.url to where"):
        ask(client(), BODY)
    assert not another_server.bodies


def test_spending_is_counted_and_ends_before_the_budget(client, server):
    asked = client(budget_tokens=200, concurrency=2)
    with pytest.raises(BudgetError, match=r"llm\.budget_tokens"):
        ask(asked, *[BODY] * 100)
    spent = asked.budget.spent
    assert 100 < spent.prompt_tokens + spent.generated_tokens <= 200
    assert len(server.bodies) < 100


def test_useless_answers_cost_too(client, server):
    server.faults = ["other form", "other form"]
    asked = client()
    ask(asked, BODY)
    assert asked.budget.spent == Spent(2 * prompt_tokens(BODY)[1] + 3, 3 * 2)


def test_the_bound_of_a_prompt_is_above_its_tokens():
    assert prompt_tokens({"prompt": [1, 2, 3]})[1] == 3
    most, likely = prompt_tokens({"prompt": "naïve " * 10})
    assert likely < 7 * 10 < most
    chat = [{"role": "user", "content": "a" * 40}, {"role": "assistant", "content": "b" * 8}]
    assert prompt_tokens({"messages": chat})[0] >= 48


def test_a_key_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text("s3cret\n")
    config = LLMConfig(backend="openai", url="http://h/v1", api_key_file=str(path))
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    assert read_key(config) == "s3cret"
    assert read_key(LLMConfig()) == "other"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert read_key(LLMConfig()) == ""
    path.write_text("two words")
    with pytest.raises(ConfigError, match="must hold the key alone") as caught:
        read_key(config)
    assert "words" not in str(caught.value)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(config)


def test_without_a_key_none_is_sent(client, server, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ask(client(), BODY)
    assert "authorization" not in server.headers[0]


def test_the_key_is_in_the_header_alone(client, server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    caplog.set_level(logging.DEBUG)
    asked = client(retries=0)
    ask(asked, BODY)
    assert server.headers[0]["authorization"] == "Bearer s3cret"
    shown = []
    for fault in (500, 401, 400, "truncated"):
        server.faults = [fault]
        with pytest.raises(BackendError) as caught:
            ask(asked, BODY)
        shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value.__dict__)]
    assert "s3cret" not in "".join(shown) + caplog.text + repr(asked._config)


def test_a_server_that_shows_the_key_does_not_make_us_show_it(client, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "such")
    server.faults = [401]
    with pytest.raises(BackendError, match=r"does not accept the key of OPENAI_API_KEY .*no \*\*\* thing"):
        ask(client(), BODY)


def test_azure_has_its_own_client(client, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    server.apis = {"completions"}
    asked = client(api_version="2026-01-01", url=server.url.removesuffix("/v1"))
    assert ask(asked, BODY)
    assert server.paths[0] == "/openai/deployments/tiny/completions?api-version=2026-01-01"
    assert server.headers[0]["api-key"] == "s3cret"


def test_what_runs_at_the_close_is_ended(client, server, monkeypatch):
    """What is left half way goes on in the middle of anything, when memory is collected, and fails there."""
    left, asked = [], client(timeout_s=60)
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    server.pause = 2

    def wait():
        with pytest.raises(CancelledError):
            ask(asked, BODY, BODY)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not server.bodies:
        time.sleep(0.01)
    asked.close()
    thread.join(10)
    assert not thread.is_alive()
    gc.collect()
    assert not left


def test_closing_twice_does_no_harm(client):
    asked = client()
    asked.close()
    asked.close()


@pytest.mark.parametrize(
    "usage",
    [
        "many",
        [1],
        None,
        {"prompt_tokens": "5", "completion_tokens": -2},
        {"prompt_tokens": 1.5, "completion_tokens": True, "completion_tokens_details": 7},
    ],
)
def test_what_a_server_miscounts_is_what_was_expected(client, connect, server, monkeypatch, usage):
    expected, answer = ask(client(), BODY), server.answer
    monkeypatch.setattr(server, "answer", lambda *asked: (200, answer(*asked)[1] | {"usage": usage}))
    miscounted = client()
    assert ask(miscounted, BODY) == expected
    assert miscounted.budget.spent == Spent(prompt_tokens(BODY)[1], 2)
    llm = connect()
    (written,) = llm.generate([WriteRequest("", "a cat", 0)], Sampling(max_new_tokens=2, stop=("never",)))
    assert written.text
    assert (llm.usage.requests, llm.usage.prompt_tokens, llm.usage.thinking_tokens) == (1, 0, 0)


@pytest.mark.parametrize(
    ("content", "headers"),
    [(b" " * 3_000_000, {}), (gzip.compress(b" " * 3_000_000), {"Content-Encoding": "gzip"})],
    ids=["long", "long when unpacked"],
)
def test_an_answer_without_end_is_not_read_to_its_end(client, server, monkeypatch, content, headers):
    monkeypatch.setattr("gecko_fret.llm.answers._MOST_BYTES", 2**20)
    monkeypatch.setattr(server, "_misbehave", lambda *_: (200, content, headers))
    with pytest.raises(BackendError, match="the answer has more than 1 MB"):
        ask(client(retries=1), BODY)
    assert len(server.bodies) == 2


def test_compressed_answers_are_read(client, server, monkeypatch):
    expected, misbehave = ask(client(), BODY), server._misbehave

    def compressed(*asked):
        status, content, headers = misbehave(*asked)
        return status, gzip.compress(content), headers | {"Content-Encoding": "gzip"}

    monkeypatch.setattr(server, "_misbehave", compressed)
    assert ask(client(), BODY) == expected


@pytest.mark.parametrize("status", [302, 304, 307, 308])
def test_a_redirect_to_no_place_says_so(client, server, status):
    server.faults, server.redirect_to = [status], ""
    with pytest.raises(Refused, match=rf"redirects \(HTTP {status}\) and names no place; set llm.url to where"):
        ask(client(), BODY)


@pytest.mark.parametrize("place", ["http://[bad", "http://user:s3cret@h/x"])
def test_a_redirect_to_anywhere_is_one_line_without_secrets(client, server, place):
    server.faults, server.redirect_to = [302], place
    with pytest.raises(Refused, match="redirects to") as caught:
        ask(client(), BODY)
    assert "s3cret" not in str(caught.value)


def test_what_a_server_says_moves_no_cursor(client, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a+b/c")
    assert client().hide("a\x1b[31m\r\nb a+b/c a%2Bb%2Fc \u202e") == "a [31m b *** ***"


@pytest.mark.parametrize("key", ["sk-\u4e2d", "two words", "a\nb"])
def test_a_key_that_no_header_can_carry_is_one_line_without_it(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigError, match="copy it again") as caught:
        read_key(LLMConfig())
    assert key not in str(caught.value)


def test_an_interrupt_waits_for_no_answer(client, server):
    server.pause = 3.0
    asked = client(timeout_s=20)

    def interrupted(seconds=None):
        raise KeyboardInterrupt

    submit = asyncio.run_coroutine_threadsafe

    def submitted(*arguments):
        future = submit(*arguments)
        time.sleep(0.3)  # the request is on its way
        return SimpleNamespace(result=interrupted, cancel=future.cancel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gecko_fret.llm.client.asyncio.run_coroutine_threadsafe", submitted)
        with pytest.raises(KeyboardInterrupt):
            ask(asked, BODY)
    asked.close()
    assert server.in_flight == 1  # the server has not answered, and nobody waits for it
    assert asked._loop.is_closed()


def test_a_request_that_is_asked_again_keeps_its_number(client, server, monkeypatch):
    """So that it goes before those that were never asked, and a server that hangs is not asked everything first."""
    numbers, of = [], Places.of

    def noted(places, number):
        numbers.append(number)
        return of(places, number)

    monkeypatch.setattr(Places, "of", noted)
    server.faults = [503, "empty"]
    ask(client(concurrency=1), *(BODY | {"prompt": prompt} for prompt in ("a cat", "the dog", "the mat")))
    assert len(numbers) == 3 + 2
    assert set(numbers) == {0, 1, 2}


def test_silence_is_told(client, server, monkeypatch, caplog):
    monkeypatch.setattr("gecko_fret.llm.client._SILENCE", 0.2)
    server.faults = ["stall"]
    with caplog.at_level(logging.WARNING):
        assert ask(client(timeout_s=1.2, retries=1), BODY)
    told = [record for record in caplog.records if "no answer for" in record.msg]
    assert told[0].getMessage().startswith(f"{server.url}: no answer for ")
    assert told[0].getMessage().endswith(" s; it is asked on (llm.timeout_s 1.2, llm.retries 1)")
    silences = [record.args[1] for record in told]
    assert silences[0] >= 0.2
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(silences))


def test_another_model_behind_the_same_name_is_told(client, server, monkeypatch, caplog):
    asked, misbehave = client(), server._misbehave

    def named(name):
        def answer(*given):
            status, content, headers = misbehave(*given)
            return status, json.dumps(json.loads(content) | {"model": name}).encode(), headers

        monkeypatch.setattr(server, "_misbehave", answer)

    with caplog.at_level(logging.WARNING):
        for name in ("tiny-1", "tiny-1", None, "tiny\x1b[2-2", "tiny-1"):
            named(name)
            ask(asked, BODY)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "answers are from the model tiny [2-2 now and were from tiny-1; if that is another one, begin" in line
    assert asked.models == ["tiny-1", "tiny [2-2"]
