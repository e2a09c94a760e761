r"""Which of the tokens that a server shows are which part of a text, in all the ways in which servers show them.

A token may show as its text, with marks for white space (``Ġ``, ``▁``, ``Ċ``), in byte-level BPE's letters, as bytes
(``<0xE4>``, ``bytes:\xe4``), and where it is part of a character, as U+FFFD or as nothing. What shows as its bytes is
compared to the byte; of a part nothing is known but that it is no ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, product
from typing import NamedTuple

THINKING_ENDS = re.compile(r"</(think|thinking|thought|reasoning)>|\[/THINK\]")
PART = "\ufffd"
#: What stands for white space in tokens of byte-level BPE and SentencePiece.
SPACES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})
_BYTES = re.compile(r"((?:<0x[0-9A-Fa-f]{2}>)+)|bytes:((?:\\x[0-9a-f]{2}|[\x20-\x7e])+)")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARK = re.compile(r"\s*(<[^<>]*>|\[[^\[\]]*\])\s*")  # of an end
_SPECIAL = re.compile(rb"<[^<>]{1,64}>")  # in a text, which servers may show as nothing
_MARKS = 3  # most in one token that are told apart
_WHITE = b" \t\n\r\x0b\x0c"
_OF_PART = range(1, 4)  # bytes that U+FFFD may stand for
_OF_NOTHING = range(5)  # and a token that shows as nothing
_SPACE = re.compile(rb"[ \t\n\r\x0b\x0c]*")
_PLACES = 200_000  # most places that are looked at: thousands of tokens that show nothing fit in too many ways
_STEPS = 500_000  # most tokens that are looked at in search of the first
Reading = tuple[bytes | None, ...]  # None: part of a character
#: What an answer may put before its first word: emphasis, quotes, brackets.
OPENING = "*_`\"'([{“„«‘「『（【 "


def placed(
    tokens: Sequence[str], text: str, *, begins: Iterable[int] = (0,), stripped: bool = False
) -> list[set[int]] | None:
    """Where in a text each token may start, if they are the whole text, one after the other.

    Args:
        tokens: as shown.
        text: the text, white space included.
        begins: bytes of the text at which the first token may start.
        stripped: white space may be missing before tokens.

    Returns:
        For each token the places in the UTF-8 bytes of the text, nearly always one; None where they are not the text.
    """
    data = encoded(text)
    readings = [_readings(token, white=True) for token in tokens]
    if tokens and tokens[0].translate(SPACES).startswith(" "):  # SentencePiece puts a space before a text
        readings[0] = readings[0] | _readings(tokens[0].translate(SPACES)[1:], white=True)
    before = _forward(readings, data, set(begins), stripped=stripped)
    return _backward(readings, data, before, stripped=stripped)


def covers(tokens: Sequence[str], text: str, stop: Sequence[str] = ()) -> bool:
    """Whether tokens are those of a text, none missing and none there twice; true where none are shown.

    White space does not count, as servers strip it from answers and from tokens. After the text may come marks of an
    end, and what spells a stop string that the server has cut off.

    Args:
        tokens: as shown.
        text: the answer.
        stop: strings that the server ends an answer at.
    """
    return not tokens or _fitting(tokens, _without_white(text), stop) is not None


def first_of(tokens: Sequence[str], text: str, stop: Sequence[str] = ()) -> int | None:
    """Number of the token that a text begins with, where the tokens of hidden thinking are shown before its own.

    vLLM and SGLang give the log-probabilities of all that was written, also where their reasoning parsers have taken
    the thinking out of the message.

    Args:
        tokens: as shown, to the end of the answer.
        text: the answer.
        stop: see ``covers``.

    Returns:
        The number; None where no end of the tokens is the text.
    """
    data = _without_white(text)
    if not data:
        return None
    if _fitting(tokens, data, stop) is not None:
        return 0
    closing = [number for number, token in enumerate(tokens) if THINKING_ENDS.search(token)]
    after = range(closing[-1] + 1, len(tokens)) if closing else range(0)
    own = next((number for number in after if not _is_white(tokens[number])), None)
    if own is not None and _fitting(tokens[own:], data, stop) is not None:
        return own
    return _last_fitting(tokens, data, stop)


def tokens_between(tokens: Sequence[str], text: str, start: int, end: int, stop: Sequence[str] = ()) -> tuple[int, int]:
    """The tokens of a part of a text, those that begin in it; of the whole text all, marks of its end included.

    Args:
        tokens: as shown.
        text: the answer.
        start: of the part, in characters.
        end: of the part.
        stop: see ``covers``.

    Returns:
        Number of the first of them, and of the first after them; equal where there are none, or nothing tells.
    """
    if start == 0 and end == len(text):
        return 0, len(tokens)
    if start == end:
        return 0, 0
    if start and not text[:start].strip():  # white space that the server has left before the answer
        first = next((number for number, token in enumerate(tokens) if not _is_white(token)), len(tokens))
        last = tokens_between(tokens[first:], text[start:], 0, end - start, stop)[1]
        return first, first + last
    places, after = _places_in(tokens, text, stop), encoded(text[end:])
    if places is None:
        return 0, 0
    if not places.exact:
        after = after.translate(None, _WHITE)
    low, high = (len(_without_white(text[:place])) for place in (start, end))
    last = next((number for number, at in enumerate(places.of) if min(at) >= max(high, 1)), len(places.of))
    inside = [
        number
        for number, at in enumerate(places.of[:last])
        if low <= min(at) and not (start and _is_white(tokens[number]))
    ]
    # Of parts of characters on both sides of its end nothing tells which are its own.
    if not inside or (after[:1] > b"\x7f" and max(places.of[last - 1]) >= high):
        return 0, 0
    return inside[0], len(tokens) if end == len(text) else inside[-1] + 1


def shows(token: str, piece: str) -> bool:
    """Whether a token is shown as a tokenizer writes it, white space included, whatever stands for that.

    Args:
        token: as shown.
        piece: of the tokenizer's vocabulary.
    """
    return bool(_readings(token, white=True) & _readings(piece, white=True))


def begins_with_space(token: str) -> bool:
    """Whether a token is shown with white space before it.

    Args:
        token: as shown.
    """
    return token.translate(SPACES)[:1].isspace()


def spelt(token: str) -> frozenset[str]:
    """What a token may say, without white space around it; parts of characters say nothing.

    Args:
        token: as shown.
    """
    texts = map(_text_of, _readings(token, white=True))
    return frozenset(text.strip() for text in texts if text is not None)


def is_opening(token: str) -> bool:
    """Whether a token is nothing but what an answer may put before its first word, see ``OPENING``.

    Args:
        token: as shown.
    """
    return any(text and not text.strip(OPENING) for text in spelt(token))


def is_blank(token: str) -> bool:
    """Whether a token is white space, or shows as nothing.

    Args:
        token: as shown.
    """
    named = _BYTES.fullmatch(token.strip())
    return not token.translate(SPACES).strip() or (named is not None and "" in spelt(token))


def encoded(text: str) -> bytes:
    """The bytes that tokens are compared with."""
    return text.encode("utf-8", "surrogatepass")


def same(shown: str, name: str) -> bool | None:
    """Whether a token is shown as what a tokenizer calls it; None where nothing tells.

    Args:
        shown: by the server.
        name: by the tokenizer.
    """
    known, wanted = _readings(shown, white=False), _readings(name, white=False)
    if not any(reading for reading in wanted) or not any(reading for reading in known):
        return None  # white space, a mark that shows as nothing
    if any(None in reading for reading in wanted):  # part of a character, which no server shows as a word
        word = shown.strip()
        return False if word.isascii() and word.isalnum() else None
    if any(None in reading for reading in known) or _MARK.fullmatch(name):
        return None
    return bool(known & wanted)


def _last_fitting(tokens: Sequence[str], data: bytes, stop: Sequence[str]) -> int | None:
    found, steps = None, 0
    for number in reversed(range(len(tokens))):
        readings = [_readings(token, white=False) for token in tokens[number : number + 1]]
        begins = bool(readings[0] and _next({0}, readings[0], data, stripped=False))
        steps += len(tokens) - number if begins else 1
        if steps > _STEPS:
            return found
        fits = begins and _fitting(tokens[number:], data, stop) is not None
        if found is not None and not fits:
            break  # before the first of those that may begin it
        if fits and not _is_white(tokens[number]):
            found = number
    return found


class _Places(NamedTuple):
    of: list[set[int]]  # of each token
    exact: bool  # whether its white space was compared, too


def _places_in(tokens: Sequence[str], text: str, stop: Sequence[str]) -> _Places | None:
    """Where each token may start in the bytes of a text, its white space not counted.

    White space tells where parts of characters stand on both sides of it; servers may have stripped it, though.
    """
    data = encoded(text)
    exact = _fitting(tokens, data, stop, white=True)
    if exact is None:
        found = _fitting(tokens, _without_white(text), stop)
        return None if found is None else _Places(found, exact=False)
    counted = [0, *accumulate(byte not in _WHITE for byte in data)]
    return _Places([{counted[at] for at in places} for places in exact], exact=True)


def _fitting(tokens: Sequence[str], data: bytes, stop: Sequence[str], *, white: bool = False) -> list[set[int]] | None:
    """Where each token may start in a text; those after it start where it ends.

    Args:
        tokens: as shown.
        data: the text, without its white space.
        stop: see ``covers``.
        white: the text has its white space, and so have the tokens.
    """
    readings = [_readings(token, white=white) for token in tokens]
    before = _forward(readings, data, {0}, stripped=False)
    most = max((number for number, places in enumerate(before) if len(data) in places), default=None)
    if most is None or not _is_end(tokens[most:], stop):
        return None
    places = _backward(readings[:most], data, before[: most + 1], stripped=False)
    return None if places is None else places + [{len(data)}] * (len(tokens) - most)


def _is_white(token: str) -> bool:
    return bool(token) and is_blank(token)


def _is_end(tokens: Sequence[str], stop: Sequence[str]) -> bool:
    rest = "".join("".join(token for token in tokens if not _MARK.fullmatch(token)).translate(SPACES).split())
    spelt = ["".join(one.split()) for one in stop]
    return not rest or any(one and (one.startswith(rest) or rest.startswith(one)) for one in spelt)


def _forward(
    readings: Sequence[frozenset[Reading]], data: bytes, begins: set[int], *, stripped: bool
) -> list[set[int]]:
    places, looked_at = [begins], 0
    for options in readings:
        looked_at += len(places[-1])
        if not places[-1] or looked_at > _PLACES:
            break
        places.append(_next(places[-1], options, data, stripped=stripped))
    return places


def _backward(
    readings: Sequence[frozenset[Reading]], data: bytes, before: list[set[int]], *, stripped: bool
) -> list[set[int]] | None:
    """Of the places before each token those from which the rest of the tokens leads to the end."""
    if len(before) <= len(readings) or len(data) not in before[len(readings)]:
        return None
    goal, found = {len(data)}, []
    for options, places in zip(reversed(readings), reversed(before[: len(readings)]), strict=True):
        goal = {at for at in places if _next({at}, options, data, stripped=stripped) & goal}
        found.append(goal)
    return found[::-1]


def _next(places: set[int], options: frozenset[Reading], data: bytes, *, stripped: bool) -> set[int]:
    found: set[int] = set()
    for place in places:
        starts = {place}
        if stripped:
            white = _SPACE.match(data, place)
            starts |= {white.end()} if white else set()
        for at in starts:
            for reading in options:
                found |= _read(at, reading, data)
            if not options:  # it shows as nothing
                found |= {at + length for length in _OF_NOTHING if _is_of_parts(data[at : at + length], length)}
                special = _SPECIAL.match(data, at)
                found |= {special.end()} if special else set()
    return found


def _read(at: int, reading: Reading, data: bytes) -> set[int]:
    places = {at}
    for piece in reading:
        if piece is None:
            places = {p + n for p in places for n in _OF_PART if _is_of_parts(data[p : p + n], n)}
        else:
            places = {p + len(piece) for p in places if data.startswith(piece, p)}
    return places


def _is_of_parts(piece: bytes, length: int) -> bool:
    return len(piece) == length and all(byte > 0x7F for byte in piece)


@lru_cache(maxsize=2**16)
def _readings(token: str, *, white: bool) -> frozenset[Reading]:
    """What a token may stand for; nothing for one that shows as nothing."""
    if not token:
        return frozenset()
    shown = _SURROGATES.sub(PART, token)
    found = {_pieces(text) for text in _texts(shown)}
    if all(letter in _LETTERS for letter in shown):
        found.add((bytes(_LETTERS[letter] for letter in shown),))
    named = _BYTES.fullmatch(shown.strip())
    if named:
        escaped = encoded(named[2] or named[1].replace("<0x", "\\x").replace(">", "").lower())
        found.add((_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), escaped),))
    return frozenset(found if white else (one for reading in found for one in (_trimmed(reading), *_stripped(reading))))


def _texts(shown: str) -> set[str]:
    """A token with its marks as white space, or as they are: a text may have such letters of its own."""
    marks = [place for place, letter in enumerate(shown) if ord(letter) in SPACES]
    if len(marks) > _MARKS:
        return {shown, shown.translate(SPACES)}
    texts = set()
    for kept in product((True, False), repeat=len(marks)):
        own = {place for place, keep in zip(marks, kept, strict=True) if keep}
        texts.add("".join(c if at in own else c.translate(SPACES) for at, c in enumerate(shown)))
    return texts


def _pieces(text: str) -> Reading:
    pieces: list[bytes | None] = []
    for number, part in enumerate(text.split(PART)):
        pieces += [None] * (number > 0) + [encoded(part)] * bool(part)
    return tuple(pieces)


def _trimmed(reading: Reading) -> Reading:
    kept = (piece if piece is None else piece.translate(None, _WHITE) for piece in reading)
    return tuple(piece for piece in kept if piece is None or piece)


def _stripped(reading: Reading) -> list[Reading]:
    """A token without the white space beyond ASCII at its ends, which servers strip from an answer's."""
    text = _text_of(reading)
    return [] if text is None else [_trimmed(_pieces(one)) for one in (text.lstrip(), text.rstrip(), text.strip())]


def _text_of(reading: Reading) -> str | None:
    """A token as text; None for parts of characters."""
    pieces = [piece for piece in reading if piece is not None]
    try:
        return b"".join(pieces).decode() if len(pieces) == len(reading) else None
    except UnicodeDecodeError:
        return None


def _without_white(text: str) -> bytes:
    return encoded(text).translate(None, _WHITE)


def _byte_level() -> dict[str, int]:
    """The letters in which byte-level BPE (GPT-2) writes bytes."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + number): byte for number, byte in enumerate(others)}


_LETTERS = _byte_level()
