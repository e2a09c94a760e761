"""Where a continuation stands in an answer that echoes its prompt, and its log-probabilities there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gecko_fret.llm.choices import Choice, read_choice
from gecko_fret.llm.client import Unusable
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.llm.segments import Tokenised

_BEGINS = (0, 1, 2, -1)  # tokens that a server puts before a prompt, in the order in which they are tried
_BY_ID = "token_id:"  # how vLLM shows tokens when it is asked for ids
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
            inside, after = self._by_offset(choice, self.whole)
        else:
            inside, after = self._by_place(choice, self.whole)
        values = [value for value in inside if value is not None]
        if not values or len(values) < len(inside):
            raise Unusable("null log-probabilities; if every answer has them, name the tokenizer (llm.tokenizer)")
        total = sum(values)
        if not math.isfinite(total):
            raise Unusable("log-probabilities that are not finite")
        aligned = after and len(choice.tops) == len(choice.logprobs) and bool(choice.tops[-1])
        return total, len(values), choice.tops[-1] if aligned else None

    def _by_place(self, choice: Choice, ids: list[int]) -> tuple[list[float | None], bool]:
        begin = _tokens_before(choice, self._start, ids[self._start : self._end], self._names)
        more = len(choice.logprobs) - len(ids) - begin
        if more not in (0, 1):  # the token that was written is shown, or it is not
            raise Unusable(f"{len(choice.logprobs)} log-probabilities of {len(ids)} tokens")
        return list(choice.logprobs[self._start + begin : self._end + begin]), more == 1

    def _by_offset(self, choice: Choice, text: str) -> tuple[list[float | None], bool]:
        if not len(choice.tokens) == len(choice.logprobs) == len(choice.offsets):
            raise Unusable("log-probabilities that do not fit the tokens")
        # Servers may count a begin mark into the offsets, and may or may not show the token that was written.
        shown = "".join(choice.tokens)
        begin = 0 if choice.text.startswith(shown) else len(shown) - len(choice.text)
        shift = choice.offsets[0] + begin
        start, end = self._start + shift, self._end + shift
        inside = [number for number, at in enumerate(choice.offsets) if start <= at < end]
        placed = [
            _stands_at(choice.tokens[number], text, choice.offsets[number] - shift)
            for number in inside
            if _comparable(choice.tokens[number])
        ]
        if sum(placed) * 2 < len(placed):  # offsets in bytes, for instance
            raise Unusable("tokens that do not stand where their offsets say; name the tokenizer (llm.tokenizer)")
        return [choice.logprobs[number] for number in inside], choice.offsets[-1] == len(text) + shift


def _tokens_before(choice: Choice, start: int, ids: list[int], names: Callable[[Sequence[int]], list[str]]) -> int:
    """How many tokens the server put before the prompt's own, such as a begin mark; 0 where its tokens do not tell.

    Args:
        choice: an answer with an echo.
        start: the place of ``ids`` in the prompt.
        ids: tokens of the prompt.
        names: from ids to what they show.
    """
    if len(choice.tokens) != len(choice.logprobs):
        return 0
    wanted = [(f"{_BY_ID}{token}", _plain(name)) for token, name in zip(ids, names(ids), strict=False)]
    for begin in _BEGINS:
        shown = choice.tokens[start + begin : start + begin + len(wanted)]
        pairs = list(zip(shown, wanted, strict=False))
        told = [(token, name) for token, name in pairs if _comparable(name[1])]
        same = all(token == name[0] or _plain(token) == name[1] for token, name in told)
        if told and same and len(shown) == len(wanted):
            return begin
    return 0


def _plain(token: str) -> str:
    """A token as text, whatever stands for its spaces."""
    return token.translate(_SPACES).strip()


def _comparable(token: str) -> bool:
    """Whether a token shows as something that all servers show alike: no white space, no part of a character."""
    return bool(_plain(token)) and _plain(token).isascii() and not token.startswith(("bytes:", "<0x", _BY_ID))


def _stands_at(token: str, text: str, at: int) -> bool:
    shown = token.translate(_SPACES)
    return at >= 0 and (text.startswith(shown, at) or (not shown[0].isspace() and text.startswith(f" {shown}", at)))
