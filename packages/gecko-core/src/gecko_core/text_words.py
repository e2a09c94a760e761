r"""The words of a text in any script, for comparing and searching texts; what the tokenizer of a model does is apart.

Python's ``\w`` takes the vowel signs of Indic scripts and the marks of Arabic for gaps between words, and a sentence
of Chinese for one word. Here a word is a run of letters, marks, digits and underscores; scripts that are written
without spaces between words give one word per character with its marks.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import regex

__all__ = ["UNSPACED", "search_terms", "text_words"]

#: Inside of a character class: the scripts that put no spaces between words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_TOKEN = regex.compile(
    rf"(?V1)(?P<run>(?:[[{UNSPACED}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)+)|[[\p{{L}}\p{{M}}\p{{N}}_]--[{UNSPACED}]]+"
)
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")


def text_words(text: str) -> list[str]:
    """The words of a text, caseless.

    Args:
        text: any text; compared in Unicode's NFC.

    Returns:
        Runs of letters, marks, digits and underscores, case-folded, and single characters of unspaced scripts.
    """
    words: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", text).casefold()):
        words += _CHARACTER.findall(match[0]) if match["run"] else [match[0]]
    return words


def search_terms(text: str) -> list[str]:
    r"""What a lexical search such as BM25 indexes of a text: lower-case words of two letters or more.

    A run of an unspaced script gives its overlapping pairs of characters, the usual stand-in for a dictionary: they
    find as much as words do in Chinese (Nie, Gao, Zhang and Zhou, IRAL 2000). For scripts with spaces and without marks
    the terms are those of the pattern ``\b\w\w+\b``, which scikit-learn and bm25s use.
    """
    terms: list[str] = []
    for match in _TOKEN.finditer(unicodedata.normalize("NFC", text).lower()):
        if match["run"]:
            characters = _CHARACTER.findall(match[0])
            terms += map("".join, pairwise(characters)) if len(characters) > 1 else characters
        elif len(match[0]) > 1:
            terms.append(match[0])
    return terms
