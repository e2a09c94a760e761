"""Sentence ends in all scripts, after Unicode's text segmentation (UAX #29).

The library ``regex`` knows the characters that end sentences (the property Sentence_Break). Three things differ from
the default rules of UAX #29, all for the sake of passages: a line break within a paragraph ends no sentence, since
texts come with hard line breaks; abbreviations end none; and Thai and Lao, which have no full stop, are split at
spaces, as they are read. A missed sentence end costs little where sentences are only joined into passages again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

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
    rf"|(?:(?<={_THAI}\p{{M}}{{0,8}})\s+(?={_THAI}))"
    r"|(?:(?<!\s)[^\S\n]*+\n[^\S\n]*+\n\s*+)"  # begun where white space begins, lest every blank of it be tried
)
_LAST_MARK = regex.compile(r"(?V1)[\s\p{Sentence_Break=STerm}\p{Sentence_Break=ATerm}།༎]")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|etc|al|Fig|No|Dr|Mr|Mrs|Ms|Prof|St|approx)\.|\b[A-Z]\.)$")
_IS_THAI = regex.compile(rf"{_THAI}\p{{M}}*\Z")
#: A phrase of Thai with fewer characters is joined to the next one.
_THAI_PHRASE = 16

# Version 0.1: Latin and Cyrillic, Chinese and Japanese; a closing quote was lost.
_END_1 = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9À-ÞА-Я])|(?<=[。！？])")


def split_sentences(text: str) -> list[str]:
    """Sentences of ``text`` in order, stripped; abbreviations and initials do not end one."""
    return _joined(_pieces(text), _goes_on)


def split_sentences_1(text: str) -> list[str]:
    """Sentences as version 0.1 had them, for folders that were begun with it."""
    pieces = (piece.strip() for piece in _END_1.split(text))
    return _joined((piece for piece in pieces if piece), lambda last, _: _ABBREVIATION.search(last) is not None)


def without_end(sentence: str) -> str:
    """The sentence without the marks and white space at its end."""
    end = len(sentence)
    while end and _LAST_MARK.match(sentence, end - 1):
        end -= 1
    return sentence[:end]


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


def _joined(pieces: Iterable[str], goes_on: Callable[[str, int], bool]) -> list[str]:
    """Pieces joined to sentences, each looked at once however many there are in a sentence.

    Args:
        pieces: the pieces.
        goes_on: from the last piece of a sentence and the sentence's length to whether another one belongs to it.
    """
    sentences: list[list[str]] = []
    length = 0
    for piece in pieces:
        if sentences and goes_on(sentences[-1][-1], length):
            sentences[-1].append(piece)
            length += 1 + len(piece)
        else:
            sentences.append([piece])
            length = len(piece)
    return [" ".join(sentence) for sentence in sentences]


def _goes_on(last: str, length: int) -> bool:
    return (length < _THAI_PHRASE and _IS_THAI.search(last) is not None) or _ABBREVIATION.search(last) is not None
