import pytest

from gecko_fret.control_tokens import CONTROL, JOINER, as_plain_text, as_written


@pytest.mark.parametrize(
    "mark",
    [
        "<|endoftext|>", "<|im_end|>", "<|start_header_id|>", "<｜end▁of▁sentence｜>", "</s>", "<s>", "<end_of_turn>",
        "<think>", "</tool_call>", "[INST]", "[/INST]", "<<SYS>>", "[SEP]", "<pad>",
    ],
)  # fmt: skip
def test_marks_of_model_families_become_text_and_come_back(mark):
    text = f"the mark {mark} ends{mark}{mark} it"
    plain = as_plain_text(text)
    assert CONTROL.search(plain) is None
    assert plain.count(JOINER) == 3
    assert as_plain_text(plain) == plain
    assert as_written(plain) == text


@pytest.mark.parametrize("text", ["say <|[INST]|> now", "<｜[/INST]｜>", "<|[MASK]|>[INST]", "<<SYS>>"])
def test_marks_within_marks_become_text(text):
    plain = as_plain_text(text)
    assert CONTROL.search(plain) is None
    assert as_written(plain) == text


@pytest.mark.parametrize(
    "text", ["a < b | c > d", "List<String>", "<p>x</p>", "x[0]", "p(a|b)", "C++ <|> |>", "<| a |>"]
)
def test_other_text_stays_as_it_is(text):
    assert as_plain_text(text) == as_written(text) == text
