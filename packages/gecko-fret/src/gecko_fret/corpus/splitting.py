"""Cutting long text into passages at paragraph and sentence ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gecko_fret.text_rules import LATEST, TextRules

MIN_WORDS = 40
TARGET_WORDS = 120
MAX_WORDS = 250
_KEEPS_LINES = 3  # version of the text rules from which white space is kept where long paragraphs are cut

# Scripts written without spaces: two characters are counted as one word, close to what their dictionaries average.
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff"
    r"\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)


def count_words(text: str) -> int:
    """Number of words: runs of non-space, plus half the characters of scripts that are written without spaces."""
    unspaced = len(_UNSPACED.findall(text))
    if not unspaced:
        return len(text.split())
    return len(_UNSPACED.sub(" ", text).split()) + (unspaced + 1) // 2


def split_text(
    text: str,
    *,
    min_words: int = MIN_WORDS,
    target_words: int = TARGET_WORDS,
    max_words: int = MAX_WORDS,
    rules: TextRules = LATEST,
) -> list[str]:
    """Cut ``text`` into passages of about ``target_words``, never above ``max_words``.

    Paragraphs stay whole where they fit, else sentences do, else lines, else the cut falls between words; white space
    between what stays together is kept. A last passage below
    ``min_words`` joins the one before it, or takes units from it where both together would be too long. A text that is
    short as a whole stays one short passage; whether to keep it is the caller's choice.

    Args:
        text: the text.
        min_words: what a passage should have, except that of a shorter text.
        target_words: a passage is full from here on.
        max_words: no passage has more.
        rules: what a sentence is.
    """
    passages: list[list[tuple[str, int]]] = [[]]
    filled = 0
    for unit, words in _units(text, max_words, rules):
        if passages[-1] and (filled >= target_words or filled + words > max_words):
            passages.append([])
            filled = 0
        passages[-1].append((unit, words))
        filled += words
    _mend_tail(passages, min_words, max_words)
    return ["".join(unit for unit, _ in passage).strip() for passage in passages if passage]


def _units(text: str, max_words: int, rules: TextRules) -> Iterator[tuple[str, int]]:
    """(text with its trailing separator, words) of the smallest pieces that may not be cut."""
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = paragraph.strip("\n").rstrip()
        words = count_words(paragraph)
        if not words:
            continue
        if words <= max_words:
            yield paragraph + "\n\n", words
            continue
        sentences = rules.sentences(paragraph)
        if rules.version < _KEEPS_LINES:
            for sentence in sentences:
                yield from _cut_long_2(sentence, max_words)
            continue
        *before, (last, words) = (unit for part in _parts(paragraph, sentences) for unit in _cut_long(part, max_words))
        yield from before
        yield last + "\n\n", words


def _parts(paragraph: str, sentences: Sequence[str]) -> Iterator[str]:
    """The paragraph cut where its sentences begin; these may have other white space than it."""
    places = [match.start() for match in re.finditer(r"\S", paragraph)]
    begin, count = 0, 0
    for sentence in sentences[:-1]:
        count += len("".join(sentence.split()))
        yield paragraph[begin : places[count]]
        begin = places[count]
    yield paragraph[begin:]


def _cut_long(part: str, max_words: int) -> Iterator[tuple[str, int]]:
    """A part of a text, white space and all, in pieces that are not too long: lines, words, parts of words."""
    words = count_words(part)
    if words <= max_words:
        yield part, words
        return
    lines = part.splitlines(keepends=True)
    if len(lines) > 1:
        for line in lines:
            yield from _cut_long(line, max_words)
        return
    tokens = re.findall(r"^\s*\S+\s*|\S+\s*", part)
    if len(tokens) < 2:
        yield from _cut_run(part, words, max_words)
        return
    step = -(-len(tokens) // -(-words // max_words))
    for start in range(0, len(tokens), step):
        yield from _cut_long("".join(tokens[start : start + step]), max_words)


def _cut_run(run: str, words: int, max_words: int) -> Iterator[tuple[str, int]]:
    """One unbroken run, of an unspaced script or of data."""
    step = max(1, len(run) * max_words // words)
    start = 0
    while start < len(run):
        piece = run[start : start + step]
        while (count := count_words(piece)) > max_words:  # its words are denser than the run's
            piece = piece[: len(piece) * max_words // count]
        yield piece, count
        start += len(piece)


def _cut_long_2(sentence: str, max_words: int) -> Iterator[tuple[str, int]]:
    """As up to version 2 of the text rules: with one space between pieces, whatever was there."""
    words = count_words(sentence)
    if words <= max_words:
        yield sentence + " ", words
        return
    tokens = sentence.split()
    if len(tokens) < 2:
        yield from ((piece + " ", count) for piece, count in _cut_run(sentence, words, max_words))
        return
    pieces = -(-words // max_words)
    step = -(-len(tokens) // pieces)
    for start in range(0, len(tokens), step):
        yield from _cut_long_2(" ".join(tokens[start : start + step]), max_words)


def _mend_tail(passages: list[list[tuple[str, int]]], min_words: int, max_words: int) -> None:
    if len(passages) < 2:
        return
    before, tail = passages[-2], passages[-1]
    tail_words, before_words = sum(w for _, w in tail), sum(w for _, w in before)
    if tail_words >= min_words:
        return
    if tail_words + before_words <= max_words:
        before.extend(tail)
        passages.pop()
        return
    while len(before) > 1 and tail_words < min_words and before_words - before[-1][1] >= min_words:
        unit = before.pop()
        tail.insert(0, unit)
        tail_words, before_words = tail_words + unit[1], before_words - unit[1]
