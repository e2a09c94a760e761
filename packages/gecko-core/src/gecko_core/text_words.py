r"""The words of a text in any script, for comparing and searching texts; what the tokenizer of a model does is apart.

Python's ``\w`` takes the vowel signs of Indic scripts and the marks of Arabic for gaps between words, and a sentence
of Chinese for one word. Here a word is a run of letters, marks, digits and underscores; scripts that are written
without spaces between words give one word per character with its marks. Joiners and non-joiners (U+200D, U+200C), which
decide only how the letters of a word are drawn, and full or half width distinguish no words.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import regex

__all__ = ["UNSPACED", "search_terms", "text_words", "text_words_2"]

#: Inside of a character class: the scripts that put no spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_TOKEN = regex.compile(
    rf"(?V1)(?P<run>(?:[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)+)|[[\p{{L}}\p{{M}}\p{{N}}_]--[{UNSPACED}]]+"
)
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_SYLLABLE = regex.compile(r"[가-힣]")
_JOIN_CONTROLS = regex.compile(r"[\u200c\u200d]+")
_WIDTHS = regex.compile(r"[\uff01-\uffee]+")


def text_words(text: str) -> list[str]:
    """The words of a text, caseless.

    Args:
        text: any text; compared in Unicode's NFC, letters of full or half width in NFKC.

    Returns:
        Runs of letters, marks, digits and underscores, case-folded, and single characters of unspaced scripts.
    """
    return text_words_2(_plain(text))


def text_words_2(text: str) -> list[str]:
    """The words of a text as ``text_words`` gave them at first, cut at join controls and by width.

    Only FRet folders that were begun with it still use it (`gecko_fret.text_rules`).
    """
    words: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", text).casefold()):
        words += _CHARACTER.findall(match[0]) if match["run"] else [match[0]]
    return words


def search_terms(text: str) -> list[str]:
    r"""What a lexical search such as BM25 indexes of a text: lower-case words of two letters or of a Korean syllable.

    A run of an unspaced script gives its overlapping pairs of characters, the usual stand-in for a dictionary: they
    find as much as words do in Chinese (Nie, Gao, Zhang and Zhou, IRAL 2000). For scripts with spaces and without marks
    the terms are those of the pattern ``\b\w\w+\b``, which scikit-learn and bm25s use.
    """
    terms: list[str] = []
    for match in _TOKEN.finditer(_plain(text).lower()):
        if match["run"]:
            characters = _CHARACTER.findall(match[0])
            terms += map("".join, pairwise(characters)) if len(characters) > 1 else characters
        elif len(match[0]) > 1 or _SYLLABLE.match(match[0]):  # water, rice, book, house: one syllable in Korean
            terms.append(match[0])
    return terms


def _plain(text: str) -> str:
    """NFC without join controls. NFKC only of width: it would also make "21⁄2" of "2½"."""
    widened = _WIDTHS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return unicodedata.normalize("NFC", _JOIN_CONTROLS.sub("", widened))
