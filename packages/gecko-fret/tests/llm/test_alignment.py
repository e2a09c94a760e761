import pytest

from gecko_fret.llm.alignment import (
    begins_with_space,
    covers,
    first_of,
    is_blank,
    is_opening,
    placed,
    same,
    shows,
    spelt,
    tokens_between,
)


@pytest.mark.parametrize(
    ("text", "shown", "whole"),
    [
        ("what ran", ["what", " ran"], True),
        (" what ran", ["what", "ran"], True),  # white space stripped from the tokens
        ("what ran", ["▁what", "▁ran", "</s>"], True),
        ("Füße 🙂", ["F", "Ã¼", "ÃŁ", "e", "ĠðŁ", "ĻĤ"], True),  # bytes, each shown as a character
        ("so 🙂", ["so", " ", "", ""], True),  # what tokens share shows in none of them
        ("so 🙂", ["so", " \ufffd", "\ufffd"], True),
        ("什么 2", ["什", "么", " 2"], True),
        ("what ran", [], True),  # nothing is shown of any token
        ("what ran", ["what"], False),
        ("what ran", [" ran"], False),
        ("what ran", ["ran", " what"], False),
        ("what ran", ["what", "what", " ran"], False),
        ("was läuft", ["was", " läu", " läu", "ft"], False),
        ("что шло", ["что", " шло"], True),
        ("что шло", ["что", "что", " шло"], False),
        ("что шло", [" шло"], False),
        ("a 中", ["a", " <0xE4>", "<0xB8>", "<0xAD>"], True),
        ("a 中", ["a", " ", "<0xE4><0xB8>", "<0xAD>"], True),
        ("a 中", ["a", " ", "<0xE4><0xB8>"], False),
        ("a 中 b", ["a", "bytes: \\xe4", "bytes:\\xb8\\xad", " b"], True),
        ("a 中 b", ["a", "bytes:\\xe4\\xb8\\xad"], False),
        ("什么时候", ["什", "么"], False),
    ],
)
def test_tokens_of_another_text_do_not_cover_it(text, shown, whole):
    assert covers(shown, text) == whole


@pytest.mark.parametrize(
    ("shown", "text", "first"),
    [
        (["Yes", "."], "Yes.", 0),
        ([" Yes", ".", "</s>"], "Yes.", 0),
        (["a", "Yes", "b", "</think>", "\n", "Yes"], "Yes", 5),
        (["▁no", "</think>", "▁what", "▁ran", "<|im_end|>", ""], "what ran", 2),
        (["no", "what", "ran"], "what ran", 1),  # white space stripped from the tokens
        (["hm", "</think>", "ðŁ", "ĻĤ", "Ġso"], "🙂 so", 2),
        (["hm", " \ufffd", "\ufffd", " so"], "🙂 so", 1),
        (["Yes", " it", " is", " so", " I", " think"], "Yes", None),  # in the thinking, and not at the end
        (["hm", "</think>", "\n", "ä½", "łå¥", "½"], "你好", 3),
        (["hm", "</think>", "\n", "\ufffd", ""], "🙂", 3),
        (["hm", "</think>", "\n"], "🙂", None),
        (["a", "b"], "c", None),
        (["a", "b"], "", None),
        ([], "a", None),
        (["ya", "Yes"], "aYes", None),  # begins within a token
        (["what", " ran", "\nmore"], "what ran", None),
        (["<", "<|eot_id|>"], "<", 0),
        (["\ufffd", "\ufffd", " ok", " \ufffd", "\ufffd"], "狐 ok 狸", 0),
        (["hm", "</think>", "\ufffd", "\ufffd", " ok"], "狐 ok", 2),
        (["hm", "<|message|>", "\ufffd", "\ufffd", " ok", "<|end|>"], "狐 ok", 2),
        (["no", " no", "<sep>", "no"], "no", 3),
    ],
)
def test_the_first_token_of_an_answer_after_hidden_thinking(shown, text, first):
    assert first_of(shown, text) == first


@pytest.mark.parametrize(
    ("shown", "text", "part", "found"),
    [
        (["a", " b", ""], "a b", "a b", ["a", " b", ""]),
        (["a", " b", "\n", "c"], "a b\nc", "a b", ["a", " b"]),
        (["hm", "</think>", "\n", "yes", " so"], "hm</think>\nyes so", "yes so", ["yes", " so"]),
        (["hm", "so", "</think>", "yes", "so"], "hm so</think>\n yes so", "yes so", ["yes", "so"]),
        (["Yes", " so"], "\n\nYes so", "Yes so", ["Yes", " so"]),  # after thinking that is beside the message
        (["\n\n", "Yes", " so"], "\n\nYes so", "Yes so", ["Yes", " so"]),
        (["ðŁ", "ĻĤ", "</think>", "Ġyes", "Ġso", "."], "🙂</think> yes so.", "yes so", ["Ġyes", "Ġso"]),
        (["ðŁ", "ĻĤ", "</think>", "no"], "🙂</think> yes", "yes", []),
        (["ðŁ", "ĻĤ", "yes"], "🙂</think> no", "no", []),
        ([], "hm</think>a", "a", []),
        (["hm", "</think>", "a", "", "<|im_end|>"], "hm</think>a", "a", ["a", "", "<|im_end|>"]),
        (
            ["<think>", "\ufffd", "\ufffd", "</think>", "\n\n", "日", "\ufffd", "\ufffd"],
            "<think>狐</think>\n\n日の",
            "日の",
            ["日", "\ufffd", "\ufffd"],
        ),
    ],
)
def test_the_tokens_of_a_part_of_an_answer(shown, text, part, found):
    start = text.rindex(part)
    first, last = tokens_between(shown, text, start, start + len(part))
    assert shown[first:last] == found


@pytest.mark.parametrize(
    ("shown", "stop", "whole"),
    [
        (["a", " b", "\n\n", "Passage", ":"], ["Passage:"], True),
        (["a", " b", "\n\n", "Pass"], ["\n\n", "Passage:"], True),
        (["a", " b", "\n\n"], [], True),
        (["a", " b", " b"], ["\n\n"], False),
        (["a", " b", " c"], ["Passage:"], False),
    ],
)
def test_a_stop_string_that_the_server_has_cut_off_may_follow(shown, stop, whole):
    assert covers(shown, "a b", stop) == whole


@pytest.mark.parametrize(
    ("shown", "name", "told"),
    [
        (" cat", " cat", True),
        ("Ġcat", " cat", True),
        ("cat", " cat", True),
        ("cats", " cat", False),
        ("Ð¸", "и", True),
        ("Ð¸", "а", False),
        ("<0xD0>", "\ufffd", None),
        ("\ufffd", "\ufffd", None),
        (" yes", "\ufffd", False),
        ("", " cat", None),
        ("<s>", "", None),
        (" ", "\n", None),
    ],
)
def test_whether_a_token_is_shown_as_what_its_tokenizer_calls_it(shown, name, told):
    assert same(shown, name) is told


def test_a_long_answer_that_fits_nowhere_is_searched_in_little_time():
    assert first_of(["aa"] * 200_000, "a" * 1_001) in (None, 199_499)
    assert first_of(["a" * 400_000], "a" * 1_000) is None


@pytest.mark.parametrize("shown", ["", "\ufffd"])
def test_tokens_that_fit_in_too_many_ways_are_given_up(shown):
    """The time of all ways grows with the square of the tokens."""
    assert covers([shown] * 300, "中" * 200)
    assert not covers([shown] * 20_000, "中" * 13_000)
    assert placed([shown] * 20_000, "中" * 13_000) is None


@pytest.mark.parametrize("white", ["\u3000", "\xa0", "\u2028", "\u2003", " \u3000"])
@pytest.mark.parametrize(
    "tokens",
    [
        ["{}", "東京", " とは", " 何"],
        ["{}東京", " とは", " 何"],
        ["東京", " とは", " 何{}"],
        ["東京", " とは", " 何", "{}"],
    ],
)
def test_white_space_beyond_ascii_that_a_server_has_stripped(white, tokens):
    shown = [token.format(white) for token in tokens]
    text = "".join(shown)
    assert covers(shown, text)
    assert covers(shown, text.strip())
    assert not covers(shown[:-2], text.strip())
    assert not covers([*shown, "東京"], text.strip())


def test_white_space_within_an_answer_is_found():
    assert covers(["a", "\u3000", "b"], "a\u3000b")
    assert tokens_between(["a", "\u3000b", "c"], "a\u3000bc", 0, 1) == (0, 1)


@pytest.mark.parametrize("token", ["", " ", "▁", "Ġ", "Ċ", "<0x0A>", "bytes:\\x0a", "\u3000", " \n"])
def test_blank_tokens(token):
    assert is_blank(token)


@pytest.mark.parametrize("token", ["a", "▁a", "č", "<0xE4>", "\ufffd", "æĺ", "_", "<s>"])
def test_tokens_that_are_not_blank(token):
    assert not is_blank(token)


def test_what_tokens_say():
    assert "Yes" in spelt("▁Yes") & spelt("ĠYes") & spelt(" Yes") & spelt("Yes")
    assert "是" in spelt("æĺ¯") & spelt("<0xE6><0x98><0xAF>")
    assert spelt("<0xE6>") == {"<0xE6>"}
    assert spelt("\ufffd") == frozenset()


@pytest.mark.parametrize(
    ("shown", "text", "part"),
    [
        (["f", "\ufffd", "\ufffd", "\n", "\ufffd", "\ufffd"], "fü\n日", (0, 3)),
        (["\ufffd", "\ufffd", "\n", "\ufffd", "\ufffd", "x"], "日\n日x", (0, 2)),
        (["\ufffd", "\ufffd", " ", "\ufffd", "\ufffd", "\ufffd"], "é 日", (0, 2)),
    ],
)
def test_white_space_tells_where_parts_of_characters_on_both_sides_of_it_belong(shown, text, part):
    end = text.index("\n") if "\n" in text else text.index(" ")
    assert tokens_between(shown, text, 0, end, ("\n",)) == part


@pytest.mark.parametrize(
    ("token", "piece", "told"),
    [
        (" Yes", "▁Yes", True), ("▁Yes", "▁Yes", True), (" Yes", "ĠYes", True), ("ĠYes", "ĠYes", True),
        ("Yes", "▁Yes", False), ("Yes", "ĠYes", False), (" Yes", "Yes", False), ("▁Yes", "Yes", False),
        ("Yes", "Yes", True), ("bytes:\\xe6\\x98\\xaf", "æĺ¯", True), ("是", "æĺ¯", True), ("否", "æĺ¯", False),
    ],
)  # fmt: skip
def test_whether_a_token_is_shown_as_a_piece_of_a_vocabulary(token, piece, told):
    assert shows(token, piece) == told


def test_tokens_with_white_space_before_them_and_opening_ones():
    assert all(map(begins_with_space, (" a", "▁a", "Ġa", "\na")))
    assert not any(map(begins_with_space, ("", "a", "a ", "_a")))
    assert all(map(is_opening, ("**", ' "', "▁(", "Ġ[", "“", "bytes:\\xe3\\x80\\x8c")))
    assert not any(map(is_opening, ("", " ", "\n", "*a", "Yes", ".", "\ufffd")))


def test_tokens_that_show_nothing_before_a_mark_are_all_of_the_part_before_it():
    """A mean was that of those whose place was sure."""
    shown = ["", "", "", "", "", "", "\n", "I", " think"]
    assert tokens_between(shown, "ไทย\nI think", 0, 3, ("\n",)) == (0, 6)


def test_where_nothing_tells_the_tokens_of_a_part_there_are_none():
    shown = ["\ufffd"] * 5  # white space is not shown
    assert tokens_between(shown, "日\n日", 0, 1, ("\n",)) == (0, 0)
