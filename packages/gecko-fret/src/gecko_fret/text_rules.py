"""What equal texts, words and sentences are, by version: a folder keeps the rules that it was begun with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gecko_core.text_identity import text_key, words_key
from gecko_core.text_words import text_words
from gecko_fret.sentences import split_sentences, split_sentences_1


@dataclass(frozen=True)
class TextRules:
    """Rules of one version.

    Attributes:
        version: its number.
        key: texts with equal keys are the same text.
        words: of a text, for telling how much of it stands in another.
        sentences: of a text.
    """

    version: int
    key: Callable[[str], str]
    words: Callable[[str], list[str]]
    sentences: Callable[[str], list[str]]


def _words_1(text: str) -> list[str]:
    return words_key(text).split()


#: 1: version 0.1, which knows Latin, Cyrillic and Chinese only and takes "C++" for "C". 2: all scripts, by Unicode.
RULES = {
    1: TextRules(1, words_key, _words_1, split_sentences_1),
    2: TextRules(2, text_key, text_words, split_sentences),
}
LATEST = RULES[2]
