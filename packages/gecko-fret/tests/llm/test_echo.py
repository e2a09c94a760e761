import pytest

from gecko_core.errors import BackendError
from gecko_fret.llm.protocol import ScoreRequest


def with_begin_mark(server, monkeypatch, written):
    """Lets the server put a token before the prompt, and show the one that it wrote or not."""
    answer = server.answer

    def marked(path, body):
        status, content = answer(path, body)
        found = content["choices"][0].get("logprobs")
        if body.get("echo") and found:
            shown = found["tokens"]
            found["tokens"] = ["<s>", *shown[: None if written else -1]]
            values, tops = found["token_logprobs"], found["top_logprobs"]
            found["token_logprobs"] = [None, -0.1, *values[1 : None if written else -1]]
            found["top_logprobs"] = [None, {}, *tops[1 : None if written else -1]]
        return status, content

    monkeypatch.setattr(server, "answer", marked)


@pytest.mark.parametrize("written", [True, False])
def test_a_token_that_the_server_puts_before_the_prompt_moves_nothing(connect, reference, server, monkeypatch, written):
    requests = [ScoreRequest("Passage: a cat sat. ", "the dog ran ", "what is the mat", " Relevance:")]
    with_begin_mark(server, monkeypatch, written)
    (found,) = connect().score(requests)
    (expected,) = reference.score(requests)
    assert found.logprob == pytest.approx(expected.logprob, abs=1e-4)
    assert found.tokens == expected.tokens


def test_offsets_in_bytes_are_noticed_where_text_is_sent(connect, server, monkeypatch):
    request, answer = ScoreRequest("", "a cat sat on the mat ", "what is the dog"), server.answer

    def in_bytes(path, body):
        status, content = answer(path, body)
        found = content["choices"][0]["logprobs"]
        found["text_offset"] = [0, *(at + 2 for at in found["text_offset"][1:])]
        return status, content

    expected = connect(tokenizer=False).score([request])
    assert expected[0].tokens == 7
    monkeypatch.setattr(server, "answer", in_bytes)
    with pytest.raises(BackendError, match="do not stand where their offsets say"):
        connect(tokenizer=False, retries=0).score([request])
