"""Where a continuation stands in an answer that echoes its prompt, and its log-probabilities there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gecko_fret.llm.alignment import PART, SPACES, encoded, placed, same
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.choices import Choice, likely, read_choice
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.llm.segments import Tokenised

_BEGINS = (0, 1, 2, -1)  # tokens that a server puts before a prompt; -1: it does not show the prompt's first
_AROUND = 64  # tokens before a continuation that are compared with it: its own may be few, or in the prompt twice
_BY_ID = "token_id:"  # how vLLM shows tokens when it is asked for ids


class EchoedPrompt:
    """A prompt of the completions API, as ids or as text, and where its continuation is.

    Args:
        whole: the prompt.
        start: where the continuation starts, in tokens or in characters.
        end: where it ends.
        names: from ids to what they show; not asked for text.
        labelled: whether the likeliest tokens after it are read.
    """

    def __init__(
        self,
        whole: list[int] | str,
        start: int,
        end: int,
        names: Callable[[Sequence[int]], list[str]],
        *,
        labelled: bool = False,
    ):
        self.whole, self._start, self._end, self._names, self._labelled = whole, start, end, names, labelled

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
            ids = row.ids if labelled else row.ids[: row.end]
            return cls(ids, row.start, row.end, names, labelled=labelled)
        before = request.prefix + request.context
        until = before + request.continuation
        whole = until + request.tail if labelled else until
        return cls(whole, len(before), len(until), names, labelled=labelled)

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
            inside, after = self._by_text(choice, self.whole, _tokens_read(answer))
        else:
            inside, after = self._by_place(choice, self.whole, _tokens_read(answer))
        values = [value for value in inside if value is not None]
        if not values or len(values) < len(inside):
            raise Unusable("null log-probabilities; if every answer has them, name the tokenizer (llm.tokenizer)")
        total = sum(values)
        if not math.isfinite(total):
            raise Unusable("log-probabilities that are not finite")
        if not any(choice.logprobs):
            raise Unusable("log-probabilities that are all 0, as if no other prompt were possible")
        aligned = after and len(choice.tops) == len(choice.logprobs) and bool(choice.tops[-1])
        if aligned and self._labelled:
            return total, len(values), likely(choice, len(choice.tops) - 1)
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

    def _by_text(self, choice: Choice, text: str, read: int | None) -> tuple[list[float | None], bool]:
        if len(choice.tokens) != len(choice.logprobs):
            raise Unusable("log-probabilities that do not fit the tokens")
        # The token that was written is shown, or not; where both would do, the number of tokens that were read tells.
        found = {written: _tiling(choice, text, written) for written in (1, 0)}
        fitting = [written for written, starts in found.items() if starts is not None]
        told = [written for written in fitting if len(choice.tokens) - written == read]
        if not fitting:
            raise Unusable(
                "an echo whose tokens are not the prompt's, or show it in a way of their own; name the tokenizer "
                "(llm.tokenizer), or take another server"
            )
        # A token at the end that shows as the prompt's end is that, where parts of characters before it could be, too.
        shown = [] if choice.tokens[-1] in ("", PART) else fitting[::-1]
        written = (told or shown or fitting)[0]
        first, last = (len(encoded(text[:place])) for place in (self._start, self._end))
        starts = found[written] or []
        among = [{first <= at < last for at in places} for places in starts]
        if any(len(either) > 1 for either in among):
            raise Unusable(
                "an echo in which nothing says where the query begins and ends, as parts of characters stand there; "
                "name the tokenizer (llm.tokenizer)"
            )
        return [value for value, inside in zip(choice.logprobs, among, strict=False) if True in inside], written == 1


def _tiling(choice: Choice, text: str, written: int) -> list[set[int]] | None:
    """Where in the bytes of a prompt its tokens may start, one after the other; None where they are not the prompt's.

    Args:
        choice: an echo, maybe with marks before the prompt.
        text: the prompt.
        written: tokens after the prompt.
    """
    tokens = choice.tokens[: len(choice.tokens) - written]
    loose = not any(token[:1].isspace() or token.startswith(("Ġ", "▁")) for token in tokens)
    for stripped in (False, True)[: 1 + loose]:  # as vLLM does with SentencePiece's
        for begin in range(min(max(_BEGINS), len(tokens)) + 1):
            places = placed(tokens[begin:], text, stripped=stripped)
            if places is not None:
                return [{-1}] * begin + places
    if text not in choice.text:  # cut
        return None
    return placed(tokens, text, begins=range(1, _AROUND))  # not all servers show the first token


def plain_token(token: str) -> str:
    """A token as text, whatever stands for its spaces.

    Args:
        token: as a server or a tokenizer shows it.
    """
    return token.translate(SPACES).strip()


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
    return same(shown, name)
