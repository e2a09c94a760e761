"""Sentence ends in all scripts, after Unicode's text segmentation (UAX #29).

The library ``regex`` knows the characters that end sentences (the property Sentence_Break). Three things differ from
the default rules of UAX #29, all for the sake of passages: a line break within a paragraph ends no sentence, since
texts come with hard line breaks; abbreviations end none; and Thai and Lao, which have no full stop, are split at
spaces, as they are read. A missed sentence end costs little where sentences are only joined into passages again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

_CLOSING = "[\"'”’»)\\]）」』】》]*"
_OPENING = "[\"'“‘«¿¡(\\[]*"
_THAI = r"[\p{Thai}\p{Lao}]"
_END = regex.compile(
    r"(?V1)"
    # A mark that also ends abbreviations and numbers: a space must follow, and a letter that may begin a sentence.
    # Georgian has no capitals in running text.
    rf"(?:[.!?]{_CLOSING}\s+(?={_OPENING}[\p{{Lu}}\p{{Lt}}\p{{Lo}}\p{{Nd}}\p{{Georgian}}]))"
    # A mark that does nothing else, such as those of Devanagari, Arabic and Chinese.
    rf"|(?:(?:[\p{{Sentence_Break=STerm}}--[!?]]|．(?!\p{{Nd}}))+{_CLOSING}\s*)"
    r"|(?:[།༎]\s+)"
    rf"|(?:(?<={_THAI}\p{{M}}*)\s+(?={_THAI}))"
    r"|(?:\s*\n\s*\n\s*)"
)
_LAST_MARKS = regex.compile(r"(?V1)[\s\p{Sentence_Break=STerm}\p{Sentence_Break=ATerm}།༎]+\Z")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Fig|No|Dr|Mr|Mrs|Ms|Prof|St|approx)\.|\b[A-Z]\.)$")
_IS_THAI = regex.compile(rf"{_THAI}\p{{M}}*\Z")
#: A phrase of Thai with fewer characters is joined to the next one.
_THAI_PHRASE = 16

# Version 0.1: Latin and Cyrillic, Chinese and Japanese; a closing quote was lost.
_END_1 = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-ÞА-Я])|(?<=[。！？])")


def split_sentences(text: str) -> list[str]:
    """Sentences of ``text`` in order, stripped; abbreviations and initials do not end one."""
    sentences: list[str] = []
    for piece in _pieces(text):
        if sentences and _goes_on(sentences[-1]):
            sentences[-1] = f"{sentences[-1]} {piece}"
        else:
            sentences.append(piece)
    return sentences


def split_sentences_1(text: str) -> list[str]:
    """Sentences as version 0.1 had them, for folders that were begun with it."""
    sentences: list[str] = []
    for piece in _END_1.split(text):
        piece = piece.strip()
        if not piece:
            continue
        if sentences and _ABBREVIATION.search(sentences[-1]):
            sentences[-1] = f"{sentences[-1]} {piece}"
        else:
            sentences.append(piece)
    return sentences


def without_end(sentence: str) -> str:
    """The sentence without the marks and white space at its end."""
    return _LAST_MARKS.sub("", sentence)


def ends_sentence(text: str) -> bool:
    """Whether the last character is one that ends sentences, in any script."""
    return without_end(text) != text


def _pieces(text: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.end()].strip()
        if piece:
            yield piece
        start = match.end()
    if rest := text[start:].strip():
        yield rest


def _goes_on(sentence: str) -> bool:
    short = len(sentence) < _THAI_PHRASE and _IS_THAI.search(sentence) is not None
    return short or _ABBREVIATION.search(sentence) is not None
