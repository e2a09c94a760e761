from dataclasses import replace

import pytest

from gecko_core.errors import BackendError
from gecko_fret.llm.client import ApiClient
from gecko_fret.llm.probe import probe

pytest.importorskip("openai")


@pytest.fixture
def found(settings):
    """What is found out of the server, and with how many requests."""
    clients = []

    def found(**given):
        config = settings(retries=0, **given)
        clients.append(ApiClient(config))
        return clients[-1].run([probe(clients[-1], config)])[0]

    yield found
    for client in clients:
        client.close()


def test_completions_with_an_echo_take_two_requests(found, server, completions):
    assert found() == replace(completions, stop=True)
    assert server.paths == ["/v1/completions"] * 2
    assert all(body["max_tokens"] <= 12 for body in server.bodies)


def test_chat_takes_four_requests(found, server, chat):
    server.says = "Yes"
    assert found(api="chat") == replace(chat, alternatives=1)
    assert server.paths == ["/v1/chat/completions"] * 4  # that it takes no schema is asked twice


def test_auto_takes_chat_where_there_are_no_completions(found, server):
    server.apis, server.says = {"chat"}, "Yes"
    assert found().api == "chat"
    with pytest.raises(BackendError, match="HTTP 404"):
        found(api="completions")


@pytest.mark.parametrize(
    ("refused", "without"),
    [
        ({"echo"}, {"echo": False}),
        ({"echo", "logprobs"}, {"echo": False, "alternatives": 0, "logprobs": False}),
        ({"seed"}, {"seed": False}),
        ({"stop"}, {"stop": False}),
        ({"seed", "stop"}, {"seed": False, "stop": False}),
    ],
)
def test_what_is_refused_is_found_out(found, server, completions, refused, without):
    server.refuses = refused
    assert found() == replace(completions, **without)


@pytest.mark.parametrize(
    ("refused", "without"),
    [({"top_logprobs"}, {"alternatives": 0, "logprobs": False}), ({"system"}, {"system": False})],
)
def test_what_is_refused_over_chat_is_found_out(found, server, chat, refused, without):
    server.refuses, server.says = refused, [("Yes", {"Yes": -0.1, "No": -3.0})]
    assert found(api="chat") == replace(chat, **{"alternatives": 2} | without)


def test_fewer_alternatives_than_asked_for(found, server):
    server.alternatives = 5
    assert found().alternatives == 5
    server.alternatives = 0
    assert (found().alternatives, found().echo) == (0, False)


@pytest.mark.parametrize("place", [-1, 0, 1])
@pytest.mark.parametrize("space", [" ", "Ġ", "▁"])
def test_log_probabilities_beside_their_tokens_are_refused(found, server, monkeypatch, place, space):
    """Such a server was believed, where it gave the first token a value as models with a start mark do."""
    answer = server.answer

    def shown(path, body):
        status, content = answer(path, body)
        if body.get("echo"):
            words = body["prompt"].split()
            values = [-8.0 if word == "house" else -0.5 for word in words]
            shifted = [*values[max(-place, 0) :], *values[: max(-place, 0)]] if place < 0 else [-0.5] * place + values
            content["choices"][0]["logprobs"] = {
                "tokens": [f"{space}{word}" for word in words],
                "token_logprobs": shifted[: len(words)],
                "top_logprobs": [{word: -0.5} for word in words],
            }
        return status, content

    monkeypatch.setattr(server, "answer", shown)
    if not place:
        assert found().echo
        return
    with pytest.raises(BackendError, match="one place beside their tokens; take a server"):
        found(api="completions")


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_what_an_answer_lacks_is_asked_for_once_more(found, server, completions, chat, api):
    """One answer of null log-probabilities took them from the whole build."""
    server.says, server.faults = "Yes", ["nulls"]
    expected = replace(completions, stop=True) if api == "completions" else replace(chat, alternatives=1)
    assert found(api=api) == expected
    assert server.bodies[0] == server.bodies[1]
    server.faults = ["nulls"] * 2
    assert not found(api=api).logprobs


def test_a_schema_is_taken_where_the_answer_is_by_it(found, server):
    server.says = lambda body: '{"yes": true}' if "response_format" in body else "Yes"
    assert found(api="chat").schema
    server.faults = ["", "", "nulls"]
    assert found(api="chat").schema  # asked once more
    server.faults = ["", "", "nulls", "nulls"]
    without = found(api="chat")  # that it takes schemas, but gives no log-probabilities with them
    assert server.faults == []
    assert (without.logprobs, without.schema) == (True, False)
    server.says = "Yes"  # ignored
    assert not found(api="chat").schema
    server.refuses = {"response_format"}
    assert not found(api="chat").schema
    server.refuses, before = set(), len(server.bodies)
    assert not found(api="chat", response_schema="never").schema
    assert not found(api="chat", omit=["response_format"]).schema
    assert not any("response_format" in body for body in server.bodies[before:])


def test_stop_strings_that_are_ignored_are_cut_by_us(found, server):
    server.says = "one, two, three"
    assert not found(api="chat").stop


@pytest.mark.parametrize("thinking", ["in the answer", "beside it"])
def test_thinking_is_noticed(found, server, thinking):
    server.says = "<think>Hm</think>Yes" if thinking == "in the answer" else "Yes"
    server.thinking = None if thinking == "in the answer" else "Hm"
    assert found(api="chat", thinking_tokens=50).thinks
    assert server.bodies[0]["max_tokens"] == 58


def test_a_server_that_fails_is_found_out_in_a_moment(found, server):
    server.faults = [503] * 50
    with pytest.raises(BackendError, match="no answer in 1 attempts"):
        found()
    server.says, server.faults = "", []
    with pytest.raises(BackendError, match="writes nothing"):
        found(api="chat")


def test_what_is_never_sent_is_not_probed(found, server):
    left_out = ["temperature", "stop", "logprobs", "top_logprobs"]
    found(send_seed=False, omit=left_out)
    server.says = "Yes"
    assert found(send_seed=False, omit=left_out, api="chat").alternatives == 0
    assert all(not {"seed", *left_out} & {*body} for body in server.bodies)
