"""Where a continuation stands in an answer that echoes its prompt, and its log-probabilities there."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gecko_fret.llm.alignment import covers
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.choices import Choice, read_choice
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.llm.segments import Tokenised

_BEGINS = (0, 1, 2, -1)  # tokens that a server puts before a prompt; -1: it does not show the prompt's first
_AROUND = 64  # tokens before a continuation that are compared with it: its own may be few, or in the prompt twice
_BY_ID = "token_id:"  # how vLLM shows tokens when it is asked for ids
_BYTES = ("bytes:", "<0x")  # how parts of characters are shown
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>|bytes:(\\x[0-9a-f]{2})+")
_PART = "\ufffd"  # how most servers show them
_SPACE = re.compile(r"\s*")
_CHARACTERS = 4  # most characters that one such token stands for
_MISPLACED = "tokens that do not stand where their offsets say; name the tokenizer (llm.tokenizer)"
_SPACES = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})  # byte-level BPE, SentencePiece


class EchoedPrompt:
    """A prompt of the completions API, as ids or as text, and where its continuation is.

    Args:
        whole: the prompt.
        start: where the continuation starts, in tokens or in characters.
        end: where it ends.
        names: from ids to what they show; not asked for text.
    """

    def __init__(self, whole: list[int] | str, start: int, end: int, names: Callable[[Sequence[int]], list[str]]):
        self.whole, self._start, self._end, self._names = whole, start, end, names

    @classmethod
    def of(
        cls,
        request: ScoreRequest,
        row: Tokenised | None,
        *,
        labelled: bool,
        names: Callable[[Sequence[int]], list[str]],
    ) -> EchoedPrompt:
        """The prompt of a request; without labels it ends with the continuation."""
        if row is not None:
            return cls(row.ids if labelled else row.ids[: row.end], row.start, row.end, names)
        before = request.prefix + request.context
        until = before + request.continuation
        return cls(until + request.tail if labelled else until, len(before), len(until), names)

    def followed_by(self, label: int | str) -> EchoedPrompt:
        """The prompt with a label after it as its continuation."""
        start = len(self.whole)
        if isinstance(self.whole, str):
            return EchoedPrompt(self.whole + str(label), start, start + len(str(label)), self._names)
        return EchoedPrompt([*self.whole, int(label)], start, start + 1, self._names)

    def read(self, answer: dict[str, Any]) -> tuple[float, int, Mapping[str, float] | None]:
        """Sum of the continuation's log-probabilities and its number of tokens, from an answer with an echo.

        The third is the likeliest tokens after the prompt; None where the answer does not show them.

        Raises:
            Unusable: they are not all there, or stand in other places than the prompt's tokens.
        """
        choice = read_choice(answer)
        if len(choice.logprobs) < 2:
            raise Unusable("no prompt log-probabilities (echo), needed to score")
        if isinstance(self.whole, str):
            inside, after = self._by_text(choice, self.whole)
        else:
            inside, after = self._by_place(choice, self.whole, _tokens_read(answer))
        values = [value for value in inside if value is not None]
        if not values or len(values) < len(inside):
            raise Unusable("null log-probabilities; if every answer has them, name the tokenizer (llm.tokenizer)")
        total = sum(values)
        if not math.isfinite(total):
            raise Unusable("log-probabilities that are not finite")
        aligned = after and len(choice.tops) == len(choice.logprobs) and bool(choice.tops[-1])
        return total, len(values), choice.tops[-1] if aligned else None

    def _by_place(self, choice: Choice, ids: list[int], read: int | None) -> tuple[list[float | None], bool]:
        if choice.tokens and len(choice.tokens) != len(choice.logprobs):
            raise Unusable("log-probabilities that do not fit the tokens")
        more = len(choice.logprobs) - len(ids)
        begins = [begin for begin in _BEGINS if more - begin in (0, 1)]  # the token that was written is shown, or not
        shown = choice.tokens if len(set(choice.tokens)) > 1 else ()  # one for all is none
        fitting = self._where_tokens_fit(shown, ids, begins) if shown else []
        begins = fitting if len(fitting) == 1 else _by_number(fitting or begins, choice.logprobs, len(ids), read)
        # Where nothing tells, the written token is shown: an echo is the prompt and what was written after it.
        if len(begins) > 1:
            begins = [begin for begin in begins if begin >= 0 and more - begin == 1]
        if len(begins) != 1:
            raise Unusable(
                f"{len(choice.logprobs)} log-probabilities of {len(ids)} tokens, and nothing says which is whose; "
                "leave llm.tokenizer out, or take a server that shows the prompt's tokens"
            )
        return list(choice.logprobs[self._start + begins[0] : self._end + begins[0]]), more - begins[0] == 1

    def _where_tokens_fit(self, shown: Sequence[str], ids: list[int], begins: list[int]) -> list[int]:
        """Those numbers of tokens before the prompt at which its tokens are shown; none where none can be compared.

        Raises:
            Unusable: the tokens that are shown are others.
        """
        first = max(self._start - _AROUND, 0)
        around = ids[first : self._end]
        names = self._names(around)
        agreed = {begin: _agreement(shown, first + begin, around, names) for begin in begins}
        shares = {begin: same / told for begin, (same, told) in agreed.items() if told}
        # After one that is missing, or there twice, all that follow are others.
        if max(shares.values(), default=1.0) < 1.0:
            raise Unusable("echoed tokens that are not the prompt's; llm.tokenizer is not the served model's")
        return [begin for begin, share in shares.items() if share == 1.0]

    def _by_text(self, choice: Choice, text: str) -> tuple[list[float | None], bool]:
        if len(choice.tokens) != len(choice.logprobs):
            raise Unusable("log-probabilities that do not fit the tokens")
        starts = _tiling(choice, text)
        if starts is None:
            starts = self._told(choice, text)
        inside = [value for value, at in zip(choice.logprobs, starts, strict=True) if self._start <= at < self._end]
        return inside, starts[-1] == len(text)

    def _told(self, choice: Choice, text: str) -> list[int]:
        """Where in the prompt tokens start by their offsets, as they show some characters in other ways.

        Raises:
            Unusable: the offsets are in bytes, say, or tokens of the continuation stand elsewhere, or are missing.
        """
        if len(choice.tokens) != len(choice.offsets):
            raise Unusable("log-probabilities that do not fit the tokens")
        # Servers may count a begin mark into the offsets, and may or may not show the token that was written.
        begin = len("".join(choice.tokens)) - len(choice.text)
        marks = itertools.accumulate(map(len, choice.tokens[: max(_BEGINS)]))
        shift = choice.offsets[0] + (begin if begin in marks else 0)
        starts = [at - shift for at in choice.offsets]
        inside = [number for number, at in enumerate(starts) if self._start <= at < self._end]
        falls = any(after < before for before, after in itertools.pairwise(starts))
        # Offsets in bytes, or in parts of UTF-16, run past the end of what is not ASCII.
        if falls or starts[-1] > max(len(text), len(choice.text)) or text not in choice.text:
            raise Unusable(_MISPLACED)
        letters = set("".join(choice.tokens))
        if all(letter.isascii() or letter in text for letter in letters):  # nothing that is shown otherwise
            raise Unusable(_MISPLACED)
        own = [(choice.tokens[number], starts[number]) for number in inside]
        if not all(_stands_at(token, text, at) for token, at in own if _comparable(token)):
            raise Unusable(_MISPLACED)
        if own and not covers([token for token, _ in own], text[own[0][1] : self._end]):
            raise Unusable("an echo in which tokens of the prompt are missing")
        return starts


def _tiling(choice: Choice, text: str) -> list[int] | None:
    """Where in a prompt its tokens start, one after the other; None where they do not show it.

    Args:
        choice: an echo, with what was written after it, and maybe marks before it.
        text: the prompt.
    """
    as_text = [_BYTE.sub(_PART, token) for token in choice.tokens]
    shown = [token.translate(_SPACES) for token in as_text]
    for tokens, begin in itertools.product((as_text, shown), range(max(_BEGINS) + 1)):
        starts = _starts(tokens[begin:], text)
        if starts is not None:
            return [-1] * begin + starts
    # Not all servers show the first token; a prompt that was cut shows less in its text, too.
    second = text.find(shown[0], 1, _AROUND) if shown[0] and text in choice.text else -1
    return _starts(shown, text, second) if second > 0 else None


def _starts(shown: Sequence[str], text: str, at: int = 0) -> list[int] | None:
    starts = []
    least = most = 0  # characters between here and the next token, where some are shown in parts or not at all
    stripped = not any(token[:1].isspace() for token in shown)  # as vLLM does with SentencePiece's
    for number, token in enumerate(shown):
        if at < len(text) and (not token or _PART in token):
            starts.append(at)
            lead = token.partition(_PART)[0]
            at += len(lead) if text.startswith(lead, at) else 0
            least, most = (1 if token else least), most + _CHARACTERS
            continue
        if at < len(text):
            if number == at == 0 and not text.startswith(token) and token.startswith(" "):
                token = token[1:]  # SentencePiece puts a space before a text
            begin = at + least
            white = _SPACE.match(text, begin) if stripped else None
            space = white.end() - begin if white else 0
            found = text.find(token, begin, at + most + space + len(token))
            if found < 0:
                return None
            starts.append(found if text[begin:found].strip() else begin)
            at = found + len(token)
        else:
            starts.append(at)
            at += len(token)
        least = most = 0
    return starts if at >= len(text) or most else None


def plain_token(token: str) -> str:
    """A token as text, whatever stands for its spaces.

    Args:
        token: as a server or a tokenizer shows it.
    """
    return token.translate(_SPACES).strip()


def _tokens_read(answer: Mapping[str, Any]) -> int | None:
    """How many tokens the server says that it read; None where it does not say."""
    usage = answer.get("usage")
    return usage.get("prompt_tokens") if isinstance(usage, dict) else None


def _by_number(begins: list[int], values: Sequence[float | None], size: int, read: int | None) -> list[int]:
    """Those numbers of tokens before a prompt that are left where its tokens do not tell; one is no guess.

    Args:
        begins: what the number of log-probabilities allows.
        values: the log-probabilities; None is that of the first token that the model has read.
        size: tokens of the prompt.
        read: tokens that the server says it read.
    """
    if values[0] is None or begins == [-1]:
        begins = [begin for begin in begins if begin >= 0]
    told = [begin for begin in begins if -1 not in begins and read == size + begin]
    return told or begins


def _agreement(shown: Sequence[str], at: int, ids: Sequence[int], names: Sequence[str]) -> tuple[int, int]:
    """How many tokens of a prompt are shown from ``at`` on, and of how many that can be told."""
    pairs = [(number, pair) for number, pair in enumerate(zip(ids, names, strict=False), at) if number >= 0]
    told = [_is_shown(shown[number], *pair) for number, pair in pairs]
    return sum(map(bool, told)), sum(one is not None for one in told)


def _is_shown(shown: str, token: int, name: str) -> bool | None:
    """Whether a token is what is shown; None where servers show it in ways of their own."""
    if shown.startswith(_BY_ID):
        return shown == f"{_BY_ID}{token}"
    if not _comparable(name) or not plain_token(shown) or shown.startswith(_BYTES):
        return None
    return plain_token(shown) == plain_token(name)


def _comparable(token: str) -> bool:
    """Whether a token shows as something that all servers show alike: no white space, no part of a character."""
    return bool(plain_token(token)) and plain_token(token).isascii() and not token.startswith((*_BYTES, _BY_ID))


def _stands_at(token: str, text: str, at: int) -> bool:
    shown = token.translate(_SPACES)
    return at >= 0 and (text.startswith(shown, at) or (not shown[0].isspace() and text.startswith(f" {shown}", at)))
