from collections import Counter

import pytest

from gecko_core.text_words import search_terms
from gecko_train.data.drawn_words import FEWEST, MOST, draw_words

TEXTS = [" ".join([*(f"own{n}x{m}" for m in range(20)), *(f"shared{m}" for m in range(20))]) for n in range(200)]


def test_words_are_the_passages_own_and_differ():
    found = draw_words(TEXTS, 150, seed=0)
    assert len(found) == 150
    assert [place for place, _ in found] == sorted({place for place, _ in found})
    lengths = Counter()
    for place, query in found:
        words = query.split()
        lengths[len(words)] += 1
        assert len(set(words)) == len(words)
        assert set(words) <= set(TEXTS[place].split())
    assert set(lengths) == set(range(FEWEST, MOST + 1))
    assert draw_words(TEXTS, 150, seed=0) == found
    assert draw_words(TEXTS, 150, seed=1) != found


def test_a_word_of_every_passage_is_never_drawn():
    assert not any("shared" in query for _, query in draw_words(TEXTS, 200, seed=0))


def test_rarer_words_are_drawn_more_often():
    # "half" is in every second text, the others in one: ln 2 to ln 200
    texts = [f"{text} half" if n % 2 else text for n, text in enumerate(TEXTS)]
    queries = [query.split() for seed in range(20) for place, query in draw_words(texts, 200, seed) if place % 2]
    drawn = sum("half" in words for words in queries) / sum(map(len, queries))
    expected = 0.6931 / (0.6931 + 20 * 5.2983)
    assert drawn == pytest.approx(expected, rel=0.5)


@pytest.mark.parametrize("text", ["", "one two three", "same same same same", "?! ..."])
def test_a_text_of_few_words_gives_none(text):
    assert not [place for place, _ in draw_words([text, *TEXTS], 500, seed=0) if place == 0]


def test_equal_texts_tell_nothing_and_none_is_no_fault():
    assert draw_words([TEXTS[0]] * 5, 5, seed=0) == []
    assert draw_words([], 5, seed=0) == []
    assert draw_words(TEXTS, 0, seed=0) == []


def test_scripts_without_spaces_have_words_too():
    texts = ["".join(chr(0x4E00 + 40 * n + m) for m in range(30)) for n in range(10)]
    found = draw_words(texts, 10, seed=0)
    assert len(found) == 10
    for place, query in found:
        assert set(query.split()) <= set(search_terms(texts[place]))
