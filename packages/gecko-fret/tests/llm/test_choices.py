import math

import pytest
from pydantic import ValidationError

from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.choices import (
    Choice,
    _AnswerModel,
    alternatives_of_first_word,
    alternatives_of_next_token,
    check_logprobs,
    cut_at_stop,
    read_choice,
    read_choices,
    without_thinking,
)


def tokens(*words):
    return Choice("".join(words), True, words, [-float(n) for n in range(len(words))], [{word: 0.0} for word in words])


def test_both_apis_are_read_into_one_form():
    old = {"tokens": ["a", "b"], "token_logprobs": [None, -2], "top_logprobs": [None, {"b": -2}], "text_offset": [0, 1]}
    completion = read_choice({"choices": [{"text": "ab", "finish_reason": "stop", "logprobs": old}]})
    assert completion == Choice("ab", True, ["a", "b"], [None, -2.0], [{}, {"b": -2.0}], [0, 1])
    content = [
        {"token": "a", "logprob": -1, "top_logprobs": [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -3}]}
    ]
    message = {"message": {"content": "a"}, "finish_reason": "length", "logprobs": {"content": content}}
    assert read_choice({"choices": [message]}) == Choice("a", False, ["a"], [-1.0], [{"a": -1.0, "b": -3.0}])
    new = {"text": "a", "finish_reason": "stop", "logprobs": {"content": content}}  # llama.cpp's completions
    assert read_choice({"choices": [new]}).tops == [{"a": -1.0, "b": -3.0}]


@pytest.mark.parametrize(
    "choice",
    [
        7,
        "a",
        None,
        {"message": 3},
        {"text": 5},
        {},
        {"finish_reason": "stop"},
        {"text": None, "message": None},
        {"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": ["b"]}},
        {"text": "a", "logprobs": "x"},
        {"text": "a", "logprobs": {"token_logprobs": [math.nan]}},
        {"text": "a", "logprobs": {"token_logprobs": [math.inf]}},
        {"text": "a", "logprobs": {"top_logprobs": {"a": -1}}},
        {"text": "a", "logprobs": {"top_logprobs": [{"a": math.nan}]}},
        {"text": "a", "logprobs": {"top_logprobs": [{"a": "-1"}]}},
        {"text": "a", "logprobs": {"tokens": [5]}},
        {"text": "a", "logprobs": {"text_offset": ["0"]}},
        {"text": "a", "logprobs": {"content": [{"token": "a", "logprob": math.nan}]}},
        {"text": "a", "logprobs": {"content": [{"logprob": -1}]}},
    ],
)
def test_another_form_is_of_no_use(choice):
    with pytest.raises(Unusable, match="another form"):
        read_choices({"choices": [choice]})


@pytest.mark.parametrize("choices", ["x", {"a": 1}, [], [None]])
def test_choices_are_a_list_of_choices(choices):
    with pytest.raises(Unusable, match="another form"):
        read_choices({"choices": choices})


def test_the_impossible_and_the_more_than_certain_are_put_right():
    tops = [{"a": -math.inf, "b": 1e-9, "c": -1}]
    choice = {"text": "b", "logprobs": {"tokens": ["b"], "token_logprobs": [-math.inf], "top_logprobs": tops}}
    found = read_choice({"choices": [choice]})
    assert (found.tops, found.logprobs) == ([{"b": 0.0, "c": -1.0}], [-math.inf])


@pytest.mark.parametrize(
    "logprobs",
    [
        {"token_logprobs": [None, 3.0]},
        {"token_logprobs": [0.002]},
        {"content": [{"token": "a", "logprob": 3.0}]},
        {"token_logprobs": [None, 0.0, 3.0]},
        {"content": [{"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": 0.5}]}]},
        {"top_logprobs": [{"a": 0.5}]},
    ],
)
def test_positive_log_probabilities_are_refused(logprobs):
    with pytest.raises(Unusable, match="the server gave positive log-probabilities, such as ") as caught:
        read_choice({"choices": [{"text": "a", "logprobs": logprobs}]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [0.6, 5.0, 1e30])
def test_a_positive_one_among_negative_ones_is_more_than_rounding(value):
    """It was taken for certainty: of `yes` at 5 and `no` at -1 all was given to `yes`."""
    tops = [{"token": "yes", "logprob": value}, {"token": "no", "logprob": -1.0}]
    content = [{"token": "no", "logprob": -1.0, "top_logprobs": tops}]
    with pytest.raises(Unusable, match="they are 0 at most"):
        read_choice({"choices": [{"message": {"content": "no"}, "logprobs": {"content": content}}]})


def test_what_is_above_zero_by_rounding_is_certain():
    old = {"tokens": ["a", "b"], "token_logprobs": [None, 1e-3], "top_logprobs": [None, {"b": 1e-3}]}
    found = read_choice({"choices": [{"text": "ab", "logprobs": old}]})
    assert (found.logprobs, found.tops) == ([None, 0.0], [{}, {"b": 0.0}])
    content = [{"token": "a", "logprob": 1e-6, "top_logprobs": [{"token": "a", "logprob": 1e-6}]}]
    found = read_choice({"choices": [{"message": {"content": "a"}, "logprobs": {"content": content}}]})
    assert (found.logprobs, found.tops) == ([0.0], [{"a": 0.0}])


def test_choices_beyond_those_asked_for_are_not_read():
    choices = [{"text": "a"}, {"text": "b"}, 7]
    assert [choice.text for choice in read_choices({"choices": choices})] == ["a"]
    assert [choice.text for choice in read_choices({"choices": choices}, 2)] == ["a", "b"]
    with pytest.raises(Unusable, match="another form"):
        read_choices({"choices": choices}, 3)
    assert len(read_choices({"choices": [{"text": "a"}] * 200}, 200)) == 200
    for choice in ({}, 1):
        with pytest.raises(Unusable, match=r"another form \(129 choices, asked for: 1\)"):
            read_choice({"choices": [choice] * 129})


@pytest.mark.parametrize(
    "choice",
    [
        {"logprobs": {"tokens": [1] * 1000}},
        {"logprobs": {"token_logprobs": ["x"] * 1000}},
        {"logprobs": {"text_offset": ["x"] * 1000}},
        {"logprobs": {"content": [1] * 1000}},
        {"logprobs": {"content": [{"token": "a", "top_logprobs": [1] * 1000}]}},
        {"logprobs": {"top_logprobs": [1] * 1000}},
        {"message": {"content": [1] * 1000}},
    ],
)
def test_of_many_errors_the_first_alone_is_kept(choice):
    with pytest.raises(ValidationError) as caught:
        _AnswerModel.model_validate({"choices": [choice]})
    assert caught.value.error_count() <= 2  # one each of a text and of its parts


@pytest.mark.parametrize(
    ("logprobs", "said"),
    [
        ({"top_logprobs": [{str(number): "x" for number in range(1025)}]}, "1025 alternatives of one token"),
        ({"tokens": ["a"] * (2**20 + 1)}, "at most 1048576 items"),
        ({"token_logprobs": [None] * (2**20 + 1)}, "at most 1048576 items"),
    ],
)
def test_lists_longer_than_any_answer_are_refused(logprobs, said):
    with pytest.raises(Unusable, match=f"another form .*{said}"):
        read_choice({"choices": [{"logprobs": logprobs}]})


@pytest.mark.parametrize("read", [alternatives_of_next_token, alternatives_of_first_word])
def test_alternatives_that_are_all_impossible_are_of_no_use(read):
    def answer(*values):
        tops = [{"token": name, "logprob": value} for name, value in zip(("yes", "no"), values, strict=True)]
        content = [{"token": "yes", "logprob": values[0], "top_logprobs": tops}]
        return {"choices": [{"message": {"content": "yes"}, "logprobs": {"content": content}}]}

    assert read(answer(-13.0, -1e308)) == {"yes": -13.0, "no": -1e308}
    with pytest.raises(Unusable, match=r"-1e\+308 for the likeliest token"):
        read(answer(-1e308, -1e308))


def test_halves_of_characters_can_be_written():
    text = read_choice({"choices": [{"text": "a\ud800 \ud83d\ude00"}]}).text
    assert text == "a\ufffd \U0001f600"
    assert text.encode()


def test_missing_parts_are_empty():
    assert read_choice({"choices": [{"text": ""}]}) == Choice("", False, [], [], [], [])
    assert read_choice({"choices": [{"message": {"content": None}, "logprobs": None}]}).text == ""
    assert read_choice({"choices": [{"message": {"content": [{"text": "a"}, {"text": "b"}]}}]}).text == "ab"


@pytest.mark.parametrize(
    "beside", [{}, {"refusal": None, "tool_calls": []}, {"refusal": "No."}, {"reasoning": "hm"}, {"tool_calls": [{}]}]
)
def test_a_message_that_ended_without_content_is_no_answer(beside):
    """It was taken for an empty one. A refusal, a call or thinking is something in its place; so is what was cut."""
    choice = {"finish_reason": "stop", "message": {"content": None, **beside}}
    if any(beside.values()):
        assert read_choice({"choices": [choice]}).text == ""
    else:
        with pytest.raises(Unusable, match="a message without content"):
            read_choice({"choices": [choice]})
    for reason in ("length", "content_filter"):
        assert read_choice({"choices": [choice | {"finish_reason": reason}]}).text == ""
    assert read_choice({"choices": [choice | {"message": {"content": ""}}]}).text == ""


def test_thinking_beside_the_answer_is_noticed():
    assert read_choice({"choices": [{"message": {"content": "a", "reasoning_content": "hm"}}]}).thought
    assert read_choice({"choices": [{"message": {"content": "a", "reasoning": "hm"}}]}).thought
    usage = {"completion_tokens_details": {"reasoning_tokens": 3}}
    assert read_choice({"choices": [{"message": {"content": "a"}}], "usage": usage}).thought
    assert not read_choice({"choices": [{"message": {"content": "a", "reasoning": None}}]}).thought


@pytest.mark.parametrize("beside", [{"reasoning_content": "Yes or no? No."}, {"reasoning": "hm"}, {}])
def test_tokens_of_thinking_beside_the_answer_are_not_its_own(beside):
    """vLLM and SGLang show them with the message's; a label was read where the thinking begins."""
    shown = ["<think>", "Yes", " or", " no", "?", " No", ".", "</think>", "\n\n", "No", " .", "<|im_end|>"]
    content = [
        {"token": token, "logprob": -float(at), "top_logprobs": [{"token": token, "logprob": -float(at) / 9}]}
        for at, token in enumerate(shown)
    ]
    answer = {"choices": [{"message": {"content": "\n\nNo .", **beside}, "logprobs": {"content": content}}]}
    choice = without_thinking(read_choice(answer))
    first, last = (9 if beside else 8), 12
    assert choice.tokens == shown[first:last]
    assert choice.logprobs == [-float(at) for at in range(first, last)]
    assert alternatives_of_first_word(answer) == {"No": -1.0}


@pytest.mark.parametrize(("value", "told"), [(-0.7, True), (-0.2, False), (-0.1, False), (None, False)])
def test_alternatives_of_another_place_are_told(value, told):
    """SGLang once gave those of the first token with every one."""
    top = [{"token": "<think>", "logprob": -0.1}, {"token": "Hm", "logprob": -3}]
    content = [{"token": token, "logprob": value, "top_logprobs": top} for token in ("<think>", "</think>", "Yes")]
    message = {"content": "<think></think>Yes"}
    answer = {"choices": [{"message": message, "logprobs": {"content": content}}]}
    if told:
        with pytest.raises(Unusable, match="'Yes' was written, and is not among the likeliest"):
            alternatives_of_first_word(answer)
    else:
        assert alternatives_of_first_word(answer) == {"<think>": -0.1, "Hm": -3.0}


def test_where_nothing_says_which_tokens_are_the_answers_there_are_none():
    content = [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in ("hm", "Yes", "and", "no")]
    message = {"content": "Sure", "reasoning": "hm"}
    answer = {"choices": [{"message": message, "logprobs": {"content": content}}]}
    assert read_choice(answer).tokens == []
    with pytest.raises(Unusable, match="no log-probabilities"):
        alternatives_of_first_word(answer)
    with pytest.raises(Unusable, match="without the log-probabilities"):
        check_logprobs(read_choice(answer))
    del message["reasoning"]
    assert read_choice(answer).tokens == ["hm", "Yes", "and", "no"]


@pytest.mark.parametrize(
    "lead", ["<think>Well.\n\n", "\n<thinking>a <b> c", "Well, the template has the opening mark."]
)
def test_thinking_is_cut_off_with_its_tokens(lead):
    mark = "</thinking>" if "<thinking>" in lead else "</think>"
    choice = without_thinking(tokens(lead, mark, "\n\n", "Yes", "."))
    assert (choice.text, choice.thought, choice.finished) == ("Yes.", True, True)
    assert (choice.tokens, choice.logprobs) == (("Yes", "."), [-3.0, -4.0])


def test_thinking_without_an_end_is_no_answer():
    assert without_thinking(Choice("<think>I wonder", False)) == Choice("", False, thought=True)


def test_an_answer_ends_before_a_stop_string_even_if_the_server_went_on():
    choice = without_thinking(tokens("what", " is", "\n\n", "Query", ":"), ["\n\n", "Query"])
    assert (choice.text, choice.finished, choice.tokens) == ("what is", True, ("what", " is"))
    assert choice.logprobs == [0.0, -1.0]
    thought = without_thinking(tokens("<think>a\n\nb</think>", "\n\n", "yes", "\n\n", "no"), ["\n\n"])
    assert (thought.text, thought.tokens) == ("yes", ("yes",))


def test_line_breaks_before_the_first_word_end_no_message_but_a_completion():
    choice = tokens("\n\n", "what", " is", "\n\n", "Query")
    message = without_thinking(choice, ["\n\n"])
    assert (message.text, message.finished, message.tokens) == ("what is", True, ("what", " is"))
    assert message.logprobs == [-1.0, -2.0]
    completion = cut_at_stop(choice, ["\n\n"])
    assert (completion.text, completion.finished, completion.tokens) == ("", True, ())
    kept = without_thinking(tokens("\n", "what"), ["\n\n"])
    assert kept.text == "\nwhat"
    nothing = without_thinking(tokens("\n\n", "\n"), ["\n\n"])
    assert (nothing.text, nothing.tokens) == ("", ())


def test_a_part_of_an_answer_that_shows_no_tokens_has_no_log_probabilities():
    """It counted as certain."""
    whole = Choice("what is", True, [], [-2.0, -3.0])
    assert without_thinking(whole, ["\n\n"]) == whole
    part = without_thinking(Choice("what is\n\nQuery", True, [], [-2.0, -3.0, -1.0, -1.0]), ["\n\n"])
    assert (part.text, list(part.logprobs)) == ("what is", [])
    with pytest.raises(Unusable, match="without the log-probabilities"):
        check_logprobs(part)


def test_an_answer_as_it_is_keeps_its_end_mark():
    choice = tokens("a", " b", "")
    assert without_thinking(choice, ["\n"]) == choice


def spoken(*places):
    """An answer over chat: of each place the written token with its alternatives."""
    content = [
        {"token": token, "logprob": tops[token], "top_logprobs": [{"token": t, "logprob": v} for t, v in tops.items()]}
        for token, tops in places
    ]
    message = {"content": "".join(token for token, _ in places)}
    return {"choices": [{"message": message, "logprobs": {"content": content}}]}


@pytest.mark.parametrize("mark", ["**", '"', " (", "「", "`", "bytes:\\xe3\\x80\\x8c"])
def test_a_label_is_read_where_its_word_is(mark):
    """At a mark before it stand the alternatives of an answer without one: they were read as the label's."""
    first, second = {mark: -0.1, "No": -3.0, "Yes": -6.0}, {"Yes": -0.02, "No": -4.0}
    answer = spoken((mark, first), ("Yes", second), ("**", {"**": -0.1}))
    message = answer["choices"][0]["message"]
    message["content"] = message["content"].replace("bytes:\\xe3\\x80\\x8c", "「")
    assert alternatives_of_first_word(answer, [" No", " Yes"]) == second
    assert alternatives_of_first_word(answer, ["[[A]]", "[[B]]"]) == first


def test_an_answer_of_marks_alone_is_read_at_the_first():
    first = {"**": -0.1, "No": -3.0}
    assert alternatives_of_first_word(spoken(("**", first), ("*", {"*": -0.1}))) == first


@pytest.mark.parametrize(
    "lead", [("Relevant", ":"), ("<", "answer", ">"), ("**", "Label", ":", "**"), ("Answer", "：")]
)
def test_a_label_after_what_it_answers_is_read_where_it_is(lead):
    """The alternatives of a first word that is no label say little of the answer."""
    first, label = {"No": -2.8, "Yes": -3.9}, {"Yes": -0.1, "No": -2.4}
    answer = spoken(*((token, {token: -0.1} | first) for token in lead), (" Yes", {" Yes": -0.1} | label))
    assert alternatives_of_first_word(answer, [" No", " Yes"]) == {" Yes": -0.1} | label
    word = next(token for token in lead if token != "**")
    assert alternatives_of_first_word(answer, [" A", " B"]) == {word: -0.1} | first


def test_a_label_in_the_midst_of_an_answer_is_none():
    tops = {"I": -0.1, "No": -3.0, "Yes": -4.0}
    answer = spoken(("I", tops), (" have", {" have": -0.1}), (" no", {" no": -0.1}), (" idea", {" idea": -0.1}))
    assert alternatives_of_first_word(answer, [" No", " Yes"]) == tops


def test_tokens_that_show_the_same_add_up_unless_they_are_the_same_again():
    alternatives = [("No", 0.4), ("Yes", 0.35), ("Yes", 0.25), ("No", 0.4)]
    top = [{"token": token, "logprob": math.log(value)} for token, value in alternatives]
    content = [{"token": "No", "logprob": math.log(0.4), "top_logprobs": top}]
    (found,) = read_choice({"choices": [{"message": {"content": "No"}, "logprobs": {"content": content}}]}).tops
    assert found == pytest.approx({"No": math.log(0.4), "Yes": math.log(0.6)})
