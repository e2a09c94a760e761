import pytest

from gecko_core.errors import BackendError
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.echo import EchoedPrompt
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


REQUEST = ScoreRequest("Passage: a cat sat. ", "the dog ran ", "what is the mat", " Relevance:")


@pytest.fixture
def echo(server, monkeypatch):
    """Lets the server show an echo in another way: ``show`` changes its log-probabilities, ``read`` the tokens read."""
    answer = server.answer

    def echo(show, read=None):
        def changed(path, body):
            status, content = answer(path, body)
            found = content["choices"][0].get("logprobs")
            if body.get("echo") and found:
                found["top_logprobs"] = None
                show(found, body["prompt"])
                content["usage"] = {} if read is None else {"prompt_tokens": len(body["prompt"]) + read}
            return status, content

        monkeypatch.setattr(server, "answer", changed)

    return echo


def hidden(found, prompt, begin=0, written=True):
    """No token is shown, and maybe the log-probability of a begin mark, and that of the token that was written."""
    values = found["token_logprobs"][: None if written else -1]
    found |= {"tokens": None, "token_logprobs": [None, *[-0.1] * begin, *values[1:]]}


def renamed(name):
    def show(found, prompt):
        found["tokens"] = [name(number, token) for number, token in enumerate(found["tokens"])]

    return show


def shifted(found, prompt):
    found["tokens"] = ["x"] * 3 + found["tokens"][:-3]


@pytest.mark.parametrize("show", [renamed(lambda number, token: f"other{number}"), shifted], ids=["others", "shifted"])
@pytest.mark.parametrize("read", [None, 0])
def test_tokens_that_are_not_the_prompts_are_refused(connect, echo, show, read):
    echo(show, read)
    with pytest.raises(BackendError, match=r"not the prompt's; llm\.tokenizer is not the served model's\)") as caught:
        connect(retries=0).score([REQUEST])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        lambda number, token: token,
        lambda number, token: token.replace(" ", "Ġ").replace("\n", "Ċ"),
        lambda number, token: "" if number % 3 == 0 else token,  # control tokens, say
        lambda number, token: (
            "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.encode()) if number % 4 == 0 else token
        ),
    ],
    ids=["as here", "byte-level", "empty", "bytes"],
)
def test_tokens_are_the_prompts_however_they_are_shown(connect, reference, echo, name):
    echo(renamed(name))
    assert connect().score([REQUEST])[0].logprob == pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("kind", ["missing", "there twice"])
@pytest.mark.parametrize("tokenizer", [None, False], ids=["ids", "text"])
def test_a_token_that_is_not_there_once_is_told(connect, echo, at, kind, tokenizer):
    """The likelihood was that of part of the query, or had another token in it."""

    def show(found, prompt):
        end = len(found["tokens"]) - 1  # of the prompt
        for name in ("tokens", "token_logprobs", "text_offset"):
            if kind == "missing":
                del found[name][end - at]
            else:
                found[name].insert(end - at, found[name][end - at])

    request = ScoreRequest("Passage: a cat sat. ", "the dog ran ", "what is the mat")
    llm = connect(retries=0, **({} if tokenizer is None else {"tokenizer": tokenizer}))
    echo(show)
    with pytest.raises(BackendError, match="not the prompt's"):
        llm.score([request])


@pytest.mark.parametrize("lost", range(1, 5))
def test_an_echo_that_ends_before_the_prompt_is_told(connect, server, monkeypatch, lost):
    answer = server.answer

    def shortened(path, body):
        status, content = answer(path, body)
        for values in content["choices"][0]["logprobs"].values():
            del values[-lost - 1 :]
        return status, content

    monkeypatch.setattr(server, "answer", shortened)
    with pytest.raises(BackendError, match="not the prompt's"):
        connect(tokenizer=False, retries=0).score([ScoreRequest("", "a cat sat ", "what is the dog that ran")])


@pytest.mark.parametrize("first", [["<s>"], []], ids=["begin mark", "none"])
def test_tokens_may_be_shown_as_ids(connect, reference, echo, first):
    def show(found, prompt):
        values = found["token_logprobs"][: len(prompt)]
        found["tokens"] = [*first, *(f"token_id:{token}" for token in prompt)]
        found["token_logprobs"] = [None, *[-0.1] * len(first), *values[1:]]

    echo(show)
    assert connect().score([REQUEST])[0].logprob == pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)


@pytest.mark.parametrize("first", ["what", "the"])
def test_a_prompt_that_repeats_itself_is_told_by_all_its_tokens(connect, reference, echo, first):
    request = ScoreRequest("the mat", "the the", "the", "the the")
    with_first = ScoreRequest(first, "the the", "the", "the the")

    def show(found, prompt):
        found["tokens"] = ["<s>", *found["tokens"]]
        found["token_logprobs"] = [None, -0.1, *found["token_logprobs"][1:]]

    echo(show)
    for asked in (request, with_first):
        assert connect().score([asked])[0].logprob == pytest.approx(reference.score([asked])[0].logprob, abs=1e-4)


@pytest.mark.parametrize(("begin", "written"), [(0, True), (1, True), (1, False), (2, False)])
def test_without_tokens_the_number_that_was_read_tells(connect, reference, echo, begin, written):
    expected = pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)
    echo(lambda *found: hidden(*found, begin, written), read=begin)
    assert connect().score([REQUEST])[0].logprob == expected
    # Where nothing tells, the written token is taken to be shown.
    for read in (None, -7) if written else ():
        echo(lambda *found: hidden(*found, begin, written), read=read)
        assert connect(retries=0).score([REQUEST])[0].logprob == expected


@pytest.mark.parametrize("begin", [0, 1])
def test_one_mark_for_all_tokens_tells_nothing(connect, reference, echo, begin):
    def show(found, prompt):
        hidden(found, prompt, begin)
        found["tokens"] = ["t"] * len(found["token_logprobs"])

    echo(show)
    assert connect().score([REQUEST])[0].logprob == pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)


def test_as_many_values_as_tokens_are_theirs(connect, reference, echo):
    echo(lambda *found: hidden(*found, 0, written=False))
    assert connect().score([REQUEST])[0].logprob == pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)

    def without_first(found, prompt):
        found |= {"tokens": None, "token_logprobs": found["token_logprobs"][1:]}

    echo(without_first, read=0)
    with pytest.raises(BackendError, match="nothing says which is whose"):
        connect(retries=0).score([REQUEST])


@pytest.mark.parametrize("tokenizer", [None, False], ids=["ids", "text"])
@pytest.mark.parametrize("written", [True, False])
def test_a_server_may_not_show_the_first_token(connect, reference, echo, written, tokenizer):
    def show(found, prompt):
        for name in ("tokens", "token_logprobs", "text_offset"):
            found[name] = found[name][1 : None if written else -1]

    echo(show)
    llm = connect(**({} if tokenizer is None else {"tokenizer": tokenizer}))
    assert llm.score([REQUEST])[0].logprob == pytest.approx(reference.score([REQUEST])[0].logprob, abs=1e-4)


def test_offsets_in_bytes_move_nothing_where_tokens_show_the_prompt(connect, server, monkeypatch):
    request, answer = ScoreRequest("", "a cat sat on the mat ", "what is the dog"), server.answer

    def in_bytes(path, body):
        status, content = answer(path, body)
        found = content["choices"][0]["logprobs"]
        found["text_offset"] = [0, *(at + 2 for at in found["text_offset"][1:])]
        return status, content

    expected = connect(tokenizer=False).score([request])
    assert expected[0].tokens == 7
    monkeypatch.setattr(server, "answer", in_bytes)
    assert connect(tokenizer=False, retries=0).score([request]) == expected


CHINESE = ScoreRequest("写。", "河水流经城市东部人们每年夏天来到这里看修桥", "河流在哪里")


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(lambda text: len(text.encode()), id="bytes"),
        pytest.param(lambda text: -len(text), id="falling"),
    ],
)
@pytest.mark.parametrize("first", ["写", "\ufffd", "¤"], ids=["whole", "in parts", "otherwise"])
def test_offsets_say_nothing_in_any_script(offset, first):
    """Where no token is ASCII none was compared, and the likelihood was that of a passage's token."""
    prompt = EchoedPrompt.of(CHINESE, None, labelled=False, names=lambda ids: [])
    tokens, count = [first, *prompt.whole[1:]], len(CHINESE.continuation)
    values = [None, *[-5.0] * (len(tokens) - 1 - count), *[-0.1] * count]

    def answer(offsets):
        found = {"tokens": tokens, "token_logprobs": values, "top_logprobs": None, "text_offset": offsets}
        return {"choices": [{"text": prompt.whole, "finish_reason": "length", "logprobs": found}], "usage": {}}

    right = (pytest.approx(-0.1 * count), count)
    for offsets in (list(range(len(tokens))), [offset(prompt.whole[:at]) for at in range(len(tokens))]):
        if first != "¤":
            assert prompt.read(answer(offsets))[:2] == right
        else:
            with pytest.raises(Unusable, match="not the prompt's"):
                prompt.read(answer(offsets))


def test_the_last_token_that_shows_the_end_of_the_prompt_is_no_written_one():
    text = "Query: คส"
    prompt = EchoedPrompt(text, 6, len(text), lambda ids: [])
    tokens = ["Query", ":", " ", "", "ค", "", "ส"]
    shown = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * 6]}
    answer = {"choices": [{"text": text, "finish_reason": "length", "logprobs": shown}]}
    assert prompt.read(answer)[:2] == (-5.0, 5)
    shown |= {"tokens": [*tokens, " so"], "token_logprobs": [None, *[-1.0] * 7]}
    assert prompt.read(answer)[:2] == (-5.0, 5)


@pytest.mark.parametrize("mark", ["▁", "Ġ"])
def test_a_text_with_what_stands_for_a_space_elsewhere_is_read_as_it_is(mark):
    prompt = EchoedPrompt.of(ScoreRequest("", f"{mark}a ", f"b{mark} c"), None, labelled=False, names=lambda ids: [])
    tokens = [mark, "a", " ", "b", mark, " c"]
    found = {"tokens": tokens, "token_logprobs": [None, -1.0, -1.0, -3.0, -4.0, -5.0], "text_offset": list(range(6))}
    answer = {"choices": [{"text": prompt.whole, "finish_reason": "length", "logprobs": found}], "usage": {}}
    assert prompt.read(answer)[:2] == (-12.0, 3)
    found |= {"tokens": [f"{mark}a", mark, f"b{mark}{mark}c"], "token_logprobs": [None, -1.0, -2.0]}
    assert prompt.read(answer)[:2] == (-2.0, 1)


def test_tokens_may_be_shown_without_their_spaces():
    """As vLLM shows those of SentencePiece; their offsets are then too small."""
    prompt = EchoedPrompt.of(
        ScoreRequest("Passage: a cat sat.", "\nQuery:", " what sat there"), None, labelled=False, names=lambda ids: []
    )
    tokens = ["<s>", "Pass", "age", ":", "a", "cat", "sat", ".", "\n", "Query", ":", "what", "sat", "there", "So"]
    tokens[8] = "<0x0A>"
    offsets = [sum(map(len, tokens[:at])) for at in range(len(tokens))]
    found = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * 10, -2.0, -3.0, -4.0, -9.0], "text_offset": offsets}
    answer = {"choices": [{"text": f"{prompt.whole} So", "finish_reason": "length", "logprobs": found}], "usage": {}}
    assert prompt.read(answer)[:2] == (-9.0, 3)
    del found["tokens"][12], found["token_logprobs"][12], found["text_offset"][12]
    with pytest.raises(Unusable, match="not the prompt's"):
        prompt.read(answer)


RUSSIAN = ScoreRequest("Текст: ", "река течёт 🙂 через город. ", "куда течёт река")


@pytest.mark.parametrize("kind", ["missing", "there twice", "cut on the left"])
def test_a_prompt_that_is_not_there_once_is_told_in_any_script(kind):
    prompt = EchoedPrompt.of(RUSSIAN, None, labelled=False, names=lambda ids: [])
    tokens = ["Текст", ":", " река", " течёт", " \ufffd", "\ufffd", " через", " город", ".", " куда", " течёт", " река"]
    starts = [0, 5, 6, 11, 17, 18, 19, 25, 31, 32, 37, 43]
    whole = RUSSIAN.prefix + RUSSIAN.context + RUSSIAN.continuation
    assert [whole[at : at + len(token)] == token for at, token in zip(starts, tokens, strict=True)].count(False) == 2

    def answer(rows, offsets, text):
        found = {"tokens": [tokens[row] for row in rows], "token_logprobs": [None, *[-1.0] * (len(rows) - 1)]}
        found |= {"top_logprobs": None, "text_offset": offsets}
        return {"choices": [{"text": text, "finish_reason": "length", "logprobs": found}], "usage": {}}

    assert prompt.read(answer(range(12), starts, whole))[:2] == (-2.0, 2)  # " куда" starts before the continuation
    if kind == "cut on the left":
        rows = range(3, 12)
        changed = answer(rows, [starts[row] - starts[3] for row in rows], whole[starts[3] :])
    else:
        rows = [*range(10), *([] if kind == "missing" else [10, 10]), 11]
        offsets = [0]
        for row in rows[:-1]:
            offsets.append(offsets[-1] + len(tokens[row]))
        changed = answer(rows, offsets, whole)
    with pytest.raises(Unusable, match="not the prompt's"):
        prompt.read(changed)


ENDING = ["Pass", "age", ":", " a", " b", "\n", "Query", ":", " ", "\ufffd", "\ufffd"]
ENDING_VALUES = [None, *[-1.0] * 7, -0.5, -0.25, -0.125]


@pytest.mark.parametrize("read", [None, 11])
@pytest.mark.parametrize("written", [" the", "", "\ufffd", "<0xE0>", None])
def test_what_was_written_after_part_of_a_character_is_not_the_prompts(written, read):
    """It was counted, where it showed as a part, too."""
    text = "Passage: a b\nQuery: ส"
    prompt = EchoedPrompt(text, len(text) - 2, len(text), lambda ids: [])
    shown = {"tokens": ENDING + [written] * (written is not None)}
    shown["token_logprobs"] = ENDING_VALUES + [-7.0] * (written is not None)
    answer = {"choices": [{"text": text + (written or ""), "finish_reason": "length", "logprobs": shown}]}
    answer["usage"] = {"prompt_tokens": read} if read else {}
    if written is None and not read:  # then the last one counts as written
        assert prompt.read(answer)[:2] == (-0.75, 2)
    else:
        assert prompt.read(answer)[:2] == (-0.875, 3)


@pytest.mark.parametrize("written", ["", "\ufffd", " the"])
@pytest.mark.parametrize("shown", range(8, 12))
def test_an_echo_that_is_cut_at_its_end_is_told_whatever_was_written(shown, written):
    text = "Passage: a b\nQuery: one two three four"
    tokens = ["Pass", "age", ":", " a", " b", "\n", "Query", ":", " one", " two", " three", " four"]
    prompt = EchoedPrompt(text, text.index(" one"), len(text), lambda ids: [])

    def answer(tokens):
        found = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * (len(tokens) - 1)]}
        return {"choices": [{"text": text, "finish_reason": "length", "logprobs": found}]}

    assert prompt.read(answer([*tokens, written]))[:2] == (-4.0, 4)
    with pytest.raises(Unusable, match="not the prompt's"):
        prompt.read(answer([*tokens[:shown], written]))


@pytest.mark.parametrize("form", ["<0x{:02X}>", "bytes:\\x{:02x}"])
def test_bytes_that_are_not_those_of_the_character_are_told(form):
    text = "Passage: a\nQuery: 狐\nAnswer:"
    start = text.index(" 狐")
    prompt = EchoedPrompt(text, start, start + 2, lambda ids: [])

    def answer(own):
        tokens = [
            "Pass",
            "age",
            ":",
            " a",
            "\n",
            "Query",
            ":",
            "▁",
            *(form.format(one) for one in own),
            "\n",
            "Answer",
            ":",
        ]
        found = {"tokens": [*tokens, " yes"], "token_logprobs": [None, *[-1.0] * len(tokens)]}
        return {"choices": [{"text": f"{text} yes", "finish_reason": "length", "logprobs": found}]}

    fox = "狐".encode()
    assert prompt.read(answer(fox))[:2] == (-4.0, 4)
    for own in (fox[:2], fox[1:], fox[:1] + fox, fox[::-1], b""):
        with pytest.raises(Unusable, match="not the prompt's"):
            prompt.read(answer(own))


def test_a_word_in_the_place_of_part_of_a_character_is_not_the_prompts():
    names = {
        1: "Passage",
        2: ":",
        3: " a",
        4: "\n",
        5: "Query",
        6: ":",
        7: " the",
        8: "\ufffd",
        9: "\ufffd",
        10: "\ufffd",
    }
    prompt = EchoedPrompt([*names], 6, 10, lambda ids: [names[one] for one in ids])

    def answer(tokens):
        found = {"tokens": tokens, "token_logprobs": [None, *[-1.0] * (len(tokens) - 1)]}
        return {
            "choices": [{"text": "x", "finish_reason": "length", "logprobs": found}],
            "usage": {"prompt_tokens": 10},
        }

    shown = list(names.values())
    assert prompt.read(answer([*shown, " yes"]))[:2] == (-4.0, 4)
    with pytest.raises(Unusable, match="not the prompt's"):
        prompt.read(answer([*shown[:-1], " yes"]))


def whole(values, tops):
    logprobs = {"tokens": ["P:", " a", " b", " R:", " red"], "token_logprobs": values, "top_logprobs": tops}
    return {"choices": [{"text": "P: a b R: red", "finish_reason": "length", "logprobs": logprobs}]}


VALUES = [None, -1.0, -2.0, -3.0, -1.5]
TOPS = [None, {" a": -1.0}, {" b": -2.0}, {" R:": -3.0}]


def test_alternatives_of_another_place_are_told_in_an_echo_too():
    request = ScoreRequest("", "P:", " a b", " R:")
    prompt = EchoedPrompt.of(request, None, labelled=True, names=lambda ids: [])
    own = {" red": -1.5, " Yes": -2.0, " No": -4.0}
    assert prompt.read(whole(VALUES, [*TOPS, own])) == (-3.0, 2, own)
    with pytest.raises(Unusable, match="' red' was written, and is not among the likeliest tokens in its place"):
        prompt.read(whole(VALUES, [*TOPS, {" Yes": -0.1, " No": -4.0}]))


def test_a_prompt_that_is_certain_as_a_whole_is_told():
    prompt = EchoedPrompt.of(ScoreRequest("", "P:", " a b", ""), None, labelled=False, names=lambda ids: [])
    answer = whole([None, 0.0, -0.0, 0.0, 0.0], [])
    for values in (answer["choices"][0]["logprobs"]["tokens"], answer["choices"][0]["logprobs"]["token_logprobs"]):
        del values[3]
    answer["choices"][0]["text"] = "P: a b red"
    with pytest.raises(Unusable, match="log-probabilities that are all 0"):
        prompt.read(answer)


@pytest.mark.parametrize(
    ("context", "query", "shown", "sure"),
    [
        ("山：日", "本は", ["\ufffd", "\ufffd", "：", "\ufffd", "\ufffd", "\ufffd", "\ufffd", "は"], False),
        ("山：日", "本は", ["山", "：", "日", "\ufffd", "\ufffd", "は"], True),
        ("山：日\n", "本は", ["山", "：", "\ufffd", "\ufffd", "\n", "\ufffd", "\ufffd", "は"], True),
    ],
)
def test_parts_of_characters_on_both_sides_of_a_querys_start_are_refused(context, query, shown, sure):
    """Which of them are the query's was guessed."""
    values = [None, *(-float(number) for number in range(1, len(shown))), -0.5]
    answer = {
        "choices": [{"text": f"{context}{query}x", "logprobs": {"tokens": [*shown, "x"], "token_logprobs": values}}],
        "usage": {"prompt_tokens": len(shown)},
    }
    prompt = EchoedPrompt.of(ScoreRequest("", context, query), None, labelled=False, names=lambda ids: [])
    if sure:
        assert prompt.read(answer)[:2] == (sum(values[-4:-1]), 3)
    else:
        with pytest.raises(Unusable, match=r"where the query begins and ends.*name the tokenizer"):
            prompt.read(answer)
