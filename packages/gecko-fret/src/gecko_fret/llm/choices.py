"""Answers of the two APIs, read into one form: text, and log-probabilities where there are some."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gecko_fret.llm.client import Unusable

_OPEN = re.compile(r"<(think|thinking|thought|reasoning)>")
_CLOSE = re.compile(r"</(think|thinking|thought|reasoning)>")


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer.

    Attributes:
        text: as it came, thinking included where the server leaves it in.
        finished: whether the model came to an end by itself.
        tokens: its tokens as text; empty where the server shows none. Of an echoed prompt those of the prompt, too.
        logprobs: of the tokens; None where the server gives none, as of a prompt's first token.
        tops: of each token, the likeliest tokens in its place with their log-probabilities.
        offsets: of each token, where it starts in ``text``; empty where the server does not say.
        thought: whether it came with thinking, in the text or beside it.
    """

    text: str
    finished: bool
    tokens: Sequence[str] = ()
    logprobs: Sequence[float | None] = ()
    tops: Sequence[Mapping[str, float]] = ()
    offsets: Sequence[int] = field(default=())
    thought: bool = False


def read_choices(answer: Mapping[str, Any]) -> list[Choice]:
    """All choices of an answer of either API.

    Raises:
        Unusable: an answer of another form.
    """
    try:
        details = (answer.get("usage") or {}).get("completion_tokens_details") or {}
        thought = bool(details.get("reasoning_tokens"))
        return [_choice(choice, thought) for choice in answer["choices"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Unusable(f"an answer of another form ({type(error).__name__}: {error})") from None


def read_choice(answer: Mapping[str, Any]) -> Choice:
    """The first choice of an answer.

    Raises:
        Unusable: an answer of another form.
    """
    return read_choices(answer)[0]


def without_thinking(choice: Choice, stop: Sequence[str] = ()) -> Choice:
    """The answer alone: what was thought before it is cut off, and whatever comes with or after a stop string.

    A server may have stopped there already. Where the thinking does not end there is no answer: an empty text that is
    not finished.

    Args:
        choice: a choice without an echoed prompt.
        stop: strings that end the answer.
    """
    text = choice.text
    closing = list(_CLOSE.finditer(text))
    opening = _OPEN.match(text.lstrip())
    if opening and not closing:
        return Choice("", False, thought=True)
    start = closing[-1].end() if closing else 0
    if choice.thought or closing:  # what is between thinking and answer is part of neither
        start += len(text[start:]) - len(text[start:].lstrip())
    ends = [place for place in (text.find(mark, start) for mark in stop) if place >= 0]
    end = min(ends, default=len(text))
    first, last = _tokens_between(choice, start, end)
    return Choice(
        text[start:end],
        choice.finished or bool(ends),
        choice.tokens[first:last],
        choice.logprobs[first:last],
        choice.tops[first:last],
        thought=choice.thought or bool(closing),
    )


def _tokens_between(choice: Choice, start: int, end: int) -> tuple[int, int]:
    """Numbers of the tokens that begin in [start, end) of the text."""
    at, begins = 0, []
    for token in choice.tokens:
        begins.append(at)
        at += len(token)
    inside = [number for number, begin in enumerate(begins) if start <= begin < max(end, 1)]
    if end == len(choice.text) and start == 0:  # tokens that show as nothing, such as an end mark, count too
        return 0, len(choice.tokens)
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _choice(choice: Mapping[str, Any], thought: bool) -> Choice:
    message = choice.get("message")
    text = (message.get("content") if message is not None else choice.get("text")) or ""
    if not isinstance(text, str):  # parts, as some servers write them
        text = "".join(part.get("text") or "" for part in text)
    message = message or {}
    thought = bool(thought or message.get("reasoning_content") or message.get("reasoning"))
    finished = choice.get("finish_reason") == "stop"
    tokens = choice.get("logprobs") or {}
    if tokens.get("content"):
        shown = tokens["content"]
        return Choice(
            text,
            finished,
            [token["token"] for token in shown],
            [_number(token.get("logprob")) for token in shown],
            [_of_list(token.get("top_logprobs")) for token in shown],
            thought=thought,
        )
    texts = tokens.get("tokens") or []
    values = [_number(value) for value in tokens.get("token_logprobs") or []]
    tops = [{name: float(value) for name, value in (top or {}).items()} for top in tokens.get("top_logprobs") or []]
    return Choice(text, finished, texts, values, tops, tokens.get("text_offset") or [], thought=thought)


def _of_list(tops: Any) -> dict[str, float]:
    """Alternatives as the chat API lists them; of tokens that show the same the likelier counts."""
    found: dict[str, float] = {}
    for top in tops or []:
        value = _number(top.get("logprob"))
        if value is not None:
            found[top["token"]] = max(value, found.get(top["token"], value))
    return found


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
