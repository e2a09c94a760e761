import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_fret.corpus.splitting import count_words, split_text
from gecko_fret.text_rules import RULES


def sentences(n, words=10):
    return [" ".join([f"Word{i}", *["word"] * (words - 2), f"end{i}."]) for i in range(n)]


def test_words_of_unspaced_scripts_are_counted_by_characters():
    assert count_words("one two  three\nfour") == 4
    assert count_words("国際連合は平和を") == 4
    assert count_words("") == 0
    assert count_words("ກຂຄງ កខគឃ") == 4


def test_pieces_keep_sentences_whole_and_lengths_in_bounds():
    source = sentences(100)
    pieces = split_text(" ".join(source))
    assert all(40 <= count_words(piece) <= 250 for piece in pieces)
    assert " ".join(" ".join(pieces).split()) == " ".join(source)
    assert all(piece.endswith(".") for piece in pieces)


def test_paragraphs_are_borders():
    paragraphs = [" ".join(sentences(9)) for _ in range(4)]
    pieces = split_text("\n\n".join(paragraphs))
    assert pieces == ["\n\n".join(paragraphs[:2]), "\n\n".join(paragraphs[2:])]


def test_short_tail_joins_what_is_before_it():
    assert len(split_text(" ".join(sentences(13)))) == 1
    pieces = split_text(" ".join(sentences(26)), max_words=250)
    assert min(count_words(piece) for piece in pieces) >= 40


def test_text_without_sentences_or_spaces_is_cut_anyway():
    assert max(count_words(p) for p in split_text("word " * 1000)) <= 250
    assert max(count_words(p) for p in split_text("漢" * 2000)) <= 250


@pytest.mark.parametrize("text", ["x" * 5000 + "中，" * 1000, "数据" + "QUJD" * 1500 + "然后我们继续说明，" * 200])
@pytest.mark.parametrize("max_words", [1, 5, 250])
def test_runs_whose_words_are_unevenly_spread_are_cut_to_size(text, max_words):
    pieces = split_text(text, min_words=1, target_words=max(1, max_words // 2), max_words=max_words)
    assert max(map(count_words, pieces)) <= max_words
    assert "".join("".join(pieces).split()) == text


def test_long_texts_of_any_script_are_cut_at_sentence_ends():
    text = " ".join(f"यह वाक्य संख्या {number} है{' और' * (number % 5)} इसमें शब्द हैं।" for number in range(60))
    pieces = split_text(text)
    assert len(pieces) > 3
    assert all(piece.endswith("।") for piece in pieces)
    assert split_text(text, rules=RULES[1]) != pieces


def test_short_and_empty_texts():
    assert split_text("Just this.") == ["Just this."]
    assert split_text(" \n ") == []


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab .!\n漢。"), max_size=1500))
def test_nothing_but_white_space_is_lost(text):
    pieces = split_text(text, min_words=5, target_words=15, max_words=30)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(count_words(piece) <= 30 for piece in pieces)


def test_a_long_block_is_cut_at_line_ends_and_keeps_its_lines():
    code = "```python\n" + "\n".join(f"def f{i}(x):\n    return x + {i}" for i in range(80)) + "\n```"
    pieces = split_text(code)
    assert len(pieces) > 2
    found, lines = [piece.split("\n") for piece in pieces], code.split("\n")
    assert [line.strip() for of in found for line in of] == [line.strip() for line in lines]
    assert all(line in lines for of in found for line in of[1:])
    assert " ".join(code.split())[:100] in split_text(code, rules=RULES[2])[0]  # as folders of before had it


def test_a_paragraph_after_a_long_one_begins_a_line():
    long = " ".join(sentences(30))
    assert split_text(f"{long}\n\n- item\n\nend")[-1].endswith("end29.\n\n- item\n\nend")


def test_an_unspaced_script_gets_no_blanks():
    text = "这是一个句子。" * 120
    assert "".join(split_text(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab .!\n\t漢。"), max_size=1500))
def test_white_space_within_a_passage_is_that_of_the_text(text):
    place = 0
    for piece in split_text(text, min_words=5, target_words=15, max_words=30):
        for line in piece.split("\n\n"):  # paragraphs have one blank line between them, whatever was there
            place = text.index(line, place) + len(line)
