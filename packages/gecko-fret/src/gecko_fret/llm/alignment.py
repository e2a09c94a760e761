"""Which of the tokens that a server shows of an answer are those of its text."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

THINKING_ENDS = re.compile(r"</(think|thinking|thought|reasoning)>")
_MARKS = str.maketrans("", "", "▁ĠĊ")  # white space, as tokenizers write it
_BYTES = re.compile(r"<0x[0-9A-Fa-f]{2}>|bytes:(\\x[0-9a-f]{2})+")
_TRIES = 64  # places in the tokens where a text might begin
_AFTER = 4  # tokens after a text that show as something, such as marks of its end


def covers(tokens: Sequence[str], text: str) -> bool:
    """Whether tokens are those of a text, none missing and none there twice; true where none are shown.

    White space does not count, as some servers strip it from single tokens; marks of an end may follow. Where tokens
    show parts of characters (an emoji), or bytes by other characters, ASCII letters and digits alone are compared.

    Args:
        tokens: as text.
        text: the answer.
    """
    shown = _BYTES.sub("\ufffd", "".join(tokens))
    if not tokens or _visible(shown).startswith(_visible(text)):
        return True
    otherwise = any(letter not in text and not letter.isascii() for letter in shown)
    return ("" in tokens or otherwise) and _sure(shown).startswith(_sure(text))


def first_of(tokens: Sequence[str], text: str) -> int | None:
    """Number of the token that a text begins with, where the tokens of hidden thinking are shown before its own.

    vLLM and SGLang give the log-probabilities of all that was written, also where their reasoning parsers have taken
    the thinking out of the message.

    Args:
        tokens: as text, to the end of the answer.
        text: the answer.

    Returns:
        The number; where the tokens do not end with the text, as they show some characters otherwise, that after the
        mark that closes the thinking; None where there is no such mark either.
    """
    for key in (_visible, _sure):
        found = _last_place([key(token) for token in tokens], key(text))
        if found is not None:
            return found
    closing = [number for number, token in enumerate(tokens) if THINKING_ENDS.search(token)]
    after = range(closing[-1] + 1, len(tokens)) if closing else ()
    return next((number for number in after if tokens[number].strip()), None)


def tokens_between(tokens: Sequence[str], text: str, start: int, end: int) -> tuple[int, int]:
    """The tokens of a part of a text, those that begin in it; of the whole text all, marks of its end included.

    Args:
        tokens: as text; white space may be missing from them, or be more than the text has.
        text: the answer.
        start: of the part, in characters.
        end: of the part.

    Returns:
        Number of the first of them, and of the first after them; equal where there are none.
    """
    if start == 0 and end == len(text):
        return 0, len(tokens)
    shown = [_visible(token) for token in tokens]
    begins = [0, *accumulate(map(len, shown))]
    first: int | None = 0
    low, high = (len(_visible(text[:place])) for place in (start, end))
    if start and not "".join(shown).startswith(_visible(text)):  # characters that are shown otherwise: from behind
        first = first_of(tokens, text[start:])
        if first is None:
            return 0, 0
        low, high = begins[first], begins[first] + high - low
    inside = [n for n, part in enumerate(shown) if low <= begins[n] < max(high, 1) and (part or not start)]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _last_place(shown: Sequence[str], wanted: str) -> int | None:
    """The token with which the last ``wanted`` begins that is followed by nothing but marks of an end."""
    starts: dict[int, int] = {}
    ends: list[int] = []
    for number, part in enumerate(shown):
        if part:
            starts[ends[-1] if ends else 0] = number
            ends.append((ends[-1] if ends else 0) + len(part))
    whole = "".join(shown)
    before = len(whole)
    for _ in range(_TRIES if wanted else 0):
        place = whole.rfind(wanted, 0, before)
        before = place + len(wanted) - 1
        if place < 0 or len(ends) - 1 - bisect_left(ends, before + 1) > _AFTER:
            return None
        if place in starts:
            return starts[place]
    return None


def _visible(text: str) -> str:
    return "".join(text.translate(_MARKS).split())


def _sure(text: str) -> str:
    return "".join(letter for letter in text if letter.isascii() and letter.isalnum())
