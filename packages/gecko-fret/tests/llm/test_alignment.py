import pytest

from gecko_fret.llm.alignment import covers, first_of, tokens_between


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
        (["hm", "</think>", "ðŁ", "ĻĤ", "Ġso"], "🙂 so", 4),  # of what shows as other characters, the first sure one
        (["hm", " \ufffd", "\ufffd", " so"], "🙂 so", 3),
        (["Yes", " it", " is", " so", " I", " think"], "Yes", None),  # in the thinking, and not at the end
        (["hm", "</think>", "\n", "ä½", "łå¥", "½"], "你好", 3),
        (["hm", "</think>", "\n", "\ufffd", ""], "🙂", 3),
        (["hm", "</think>", "\n"], "🙂", None),
        (["a", "b"], "c", None),
        (["a", "b"], "", None),
        ([], "a", None),
        (["ya", "Yes"], "aYes", None),  # begins within a token
        (["what", " ran", "\nmore"], "what ran", 0),
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
        (["ðŁ", "ĻĤ", "</think>", "no"], "🙂</think> yes", "yes", ["no"]),  # after the mark, whatever it shows
        (["ðŁ", "ĻĤ", "yes"], "🙂</think> no", "no", []),
        ([], "hm</think>a", "a", []),
    ],
)
def test_the_tokens_of_a_part_of_an_answer(shown, text, part, found):
    start = text.rindex(part)
    first, last = tokens_between(shown, text, start, start + len(part))
    assert shown[first:last] == found


def test_a_long_answer_that_fits_nowhere_is_searched_in_little_time():
    assert first_of(["aa"] * 200_000, "a" * 1_001) in (None, 199_499)
    assert first_of(["a" * 400_000], "a" * 1_000) is None
