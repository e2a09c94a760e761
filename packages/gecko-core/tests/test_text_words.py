import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_core.text_words import search_terms, text_words, text_words_2


def test_marks_belong_to_their_words():
    assert text_words("दिन दान कैसे") == ["दिन", "दान", "कैसे"]
    assert text_words("عَلَم عِلْم") == ["عَلَم", "عِلْم"]
    assert text_words("C++ for_x x² Straße") == ["c", "for_x", "x²", "strasse"]
    assert text_words("e\u0301t\u00e9") == ["\u00e9t\u00e9"]


@pytest.mark.parametrize(
    ("text", "words", "terms"),
    [
        ("国連は 平和をABC", ["国", "連", "は", "平", "和", "を", "abc"], ["国連", "連は", "平和", "和を", "abc"]),
        ("カー、犬。", ["カ", "ー", "犬"], ["カー", "犬"]),
        ("เสื้อสี", ["เ", "สื้", "อ", "สี"], ["เสื้", "สื้อ", "อสี"]),
        ("កម្ពុជា", ["ក", "ម្", "ពុ", "ជា"], ["កម្", "ម្ពុ", "ពុជា"]),
        ("བོད་ཡིག", ["བོ", "ད", "ཡི", "ག"], ["བོད", "ཡིག"]),
        ("한국어 문장", ["한국어", "문장"], ["한국어", "문장"]),
    ],
)
def test_scripts_without_spaces_give_characters_and_pairs_of_them(text, words, terms):
    assert text_words(text) == words
    assert search_terms(text) == terms


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("हिन्\u200dदी", "हिन्दी"),
        ("می\u200cروم", "میروم"),
        ("ක්\u200dරීඩා", "ක්රීඩා"),
        ("ﾊﾟｿｺﾝのｶﾞｲﾄﾞ", "パソコンのガイド"),
        ("カﾞ", "ガ"),
        ("ＡＢＣ１２", "ABC12"),
        ("물", unicodedata.normalize("NFD", "물")),
    ],
)
def test_joiners_and_width_distinguish_no_words(text, same):
    assert text_words(text) == text_words(same) != []
    assert search_terms(text) == search_terms(same) != []


def test_korean_words_of_one_syllable_are_terms():
    assert search_terms("물 한 잔, ㅋ a") == ["물", "한", "잔"]


def test_symbols_that_only_look_like_letters_stay_as_they_are():
    assert search_terms("2½ x² ﬁn") == ["2½", "x²", "ﬁn"]


def test_the_words_of_begun_folders_are_cut_at_joiners():
    assert text_words_2("हिन्\u200dदी ＡＢ") == ["हिन्", "दी", "ａｂ"]
    assert text_words_2("दिन C++ 国連") == text_words("दिन C++ 国連")


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x2FF, exclude_characters="İ"), max_size=60))
def test_terms_of_latin_text_are_those_of_the_usual_pattern(text):
    assert search_terms(text) == re.findall(r"\b\w\w+\b", text.lower())


def test_a_letter_whose_lower_case_has_a_mark_is_not_cut_at_it():
    """The usual pattern makes "stanbul" of it, because the dot above is no character of a word there."""
    assert search_terms("İstanbul") == ["İstanbul".lower()]
