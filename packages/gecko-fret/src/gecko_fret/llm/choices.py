"""Answers of the two APIs, read into one form: text, and log-probabilities where there are some."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gecko_fret.llm.alignment import (
    OPENING,
    SPACES,
    THINKING_ENDS,
    covers,
    first_of,
    is_blank,
    is_opening,
    tokens_between,
)
from gecko_fret.llm.answers import Unusable
from gecko_fret.llm.labels import label_of

_OPEN = re.compile(r"<(think|thinking|thought|reasoning)>|\[THINK\]")
_ROUNDING = 1e-3  # so far above 0 may be what is certain
_FEW_BITS = 0.5  # so far beside likelihoods below it, where a server computes in few bits
_LEAST_LIKELIEST = -30.0  # of a million tokens with equal probabilities each has -14
_AS_LIKELY = 0.5  # log-probabilities that quantised models round apart
_MOST_CHOICES = 128  # of an answer, where fewer were asked for: OpenAI gives no more
_MOST_TOKENS = 2**20  # of an answer with its prompt: above the window of any model
_MOST_ALTERNATIVES = 1024  # of one token; 20 are asked for

Value = TypeVar("Value")


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


class _Model(BaseModel):
    """What is read of an answer; other keys are the server's own affair, and no type is converted."""

    model_config = ConfigDict(strict=True, extra="ignore")


def _is_logprob(value: float) -> float:
    if math.isnan(value) or value == math.inf:
        raise ValueError(f"{value} is no log-probability")
    return value


def _are_few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_ALTERNATIVES:
        raise ValueError(f"{len(value)} alternatives of one token")
    return value


_Logprob = Annotated[float, AfterValidator(_is_logprob)]
# pydantic would collect an error for every element, which takes minutes and gigabytes for some MB that are no answer.
_List = Annotated[list[Value], Field(max_length=_MOST_TOKENS, fail_fast=True)]
_Alternatives = Annotated[dict[str, _Logprob | None], BeforeValidator(_are_few)]


class _AlternativeModel(_Model):
    token: str
    logprob: _Logprob | None = None


class _TokenModel(_AlternativeModel):
    top_logprobs: _List[_AlternativeModel] | None = None


class _LogprobsModel(_Model):
    content: _List[_TokenModel] | None = None  # chat
    tokens: _List[str] | None = None  # completions, here and below
    token_logprobs: _List[_Logprob | None] | None = None
    top_logprobs: _List[_Alternatives | None] | None = None
    text_offset: _List[int] | None = None


class _PartModel(_Model):
    text: str | None = None


class _MessageModel(_Model):
    content: str | _List[_PartModel] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None

    @property
    def instead(self) -> bool:
        """Whether there is something where the content should be: thinking that was cut off, a refusal, a call."""
        return bool(self.reasoning_content or self.reasoning or self.refusal or self.tool_calls)


class _ChoiceModel(_Model):
    text: str | None = None
    message: _MessageModel | None = None
    finish_reason: str | None = None
    logprobs: _LogprobsModel | None = None

    @model_validator(mode="after")
    def _says_something(self) -> _ChoiceModel:
        if self.text is None and self.message is None:
            raise ValueError("neither text nor message")
        # A filter's null is an answer; one that came to its end with nothing in it has lost what it said.
        message = self.message
        if self.finish_reason == "stop" and message and message.content is None and not message.instead:
            raise ValueError("a message without content")
        return self


class _AnswerModel(_Model):
    choices: list[_ChoiceModel] = Field(min_length=1, fail_fast=True)


def read_choices(answer: Mapping[str, Any], most: int = 1) -> list[Choice]:
    """The choices of an answer of either API.

    Args:
        answer: as it came.
        most: as many as were asked for; what comes after them is not read.

    Raises:
        Unusable: an answer of another form, or with a log-probability that is none.
    """
    found = answer.get("choices")
    if isinstance(found, list) and len(found) > max(most, _MOST_CHOICES):
        raise Unusable(f"an answer of another form ({len(found)} choices, asked for: {most})")
    try:
        choices = _AnswerModel.model_validate({"choices": found[:most] if isinstance(found, list) else found}).choices
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        raise Unusable(f"an answer of another form ({place}: {first['msg'][:80]})") from None
    usage: Any = answer.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    thought = isinstance(details, dict) and bool(details.get("reasoning_tokens"))
    return [_choice(choice, thought) for choice in choices]


def read_choice(answer: Mapping[str, Any]) -> Choice:
    """The first choice of an answer.

    Raises:
        Unusable: an answer of another form.
    """
    return read_choices(answer)[0]


def without_thinking(choice: Choice, stop: Sequence[str] = (), *, message: bool = True) -> Choice:
    """The answer alone: what was thought before it is cut off, and whatever comes with or after a stop string.

    A server may have stopped there already. Where the thinking does not end there is no answer: an empty text that is
    not finished.

    Args:
        choice: a choice without an echoed prompt.
        stop: strings that end the answer.
        message: whether it is a message of a chat, which line breaks before its first word do not end.
    """
    text = choice.text
    closing = list(THINKING_ENDS.finditer(text))
    opening = _OPEN.match(text.lstrip())
    if opening and not closing:
        return Choice("", False, thought=True)
    start = closing[-1].end() if closing else 0
    blank = text[start:][: len(text[start:]) - len(text[start:].lstrip())]
    # What is between thinking and answer is part of neither.
    if choice.thought or closing or (message and any(mark in blank for mark in stop)):
        start += len(blank)
    ends = [place for place in (text.find(mark, start) for mark in stop) if place >= 0]
    end = min(ends, default=len(text))
    if choice.tokens or end - start < len(text):
        first, last = tokens_between(choice.tokens, text, start, end, stop)
    else:  # no token is shown, of an answer that stays whole
        first, last = 0, len(choice.logprobs)
    return Choice(
        text[start:end],
        choice.finished or bool(ends),
        choice.tokens[first:last],
        choice.logprobs[first:last],
        choice.tops[first:last],
        thought=choice.thought or bool(closing),
    )


def cut_at_stop(choice: Choice, stop: Sequence[str]) -> Choice:
    """An answer of the completions API, cut where a server should have stopped.

    Args:
        choice: a choice without an echoed prompt.
        stop: strings that end the answer; without one of them in it the answer stays as it is.
    """
    if not any(mark in choice.text for mark in stop):
        return choice
    return without_thinking(choice, stop, message=False)


def alternatives_of_next_token(answer: Mapping[str, Any]) -> Mapping[str, float]:
    """The likeliest tokens in the place of the first one that was written, with their log-probabilities.

    Raises:
        Unusable: an answer of another form, or without them.
    """
    choice = read_choice(answer)
    if not choice.tops or not choice.tops[0]:
        raise Unusable("no log-probabilities of the answer")
    return likely(choice, 0)


def alternatives_of_first_word(answer: Mapping[str, Any], words: Sequence[str] = ()) -> Mapping[str, float]:
    """The likeliest tokens in the place of the answer's first word, after thinking, white space and opening marks.

    Before it may stand what emphasises or quotes it ("**Yes**"), or what it answers ("Relevant: Yes"). Where there is
    no word, the place of the first mark counts.

    Args:
        answer: as it came.
        words: labels; where one of them begins with a mark itself, marks are words.

    Raises:
        Unusable: an answer of another form, or without them.
    """
    choice = without_thinking(read_choice(answer))
    shown = [place for place, (token, tops) in enumerate(zip(choice.tokens, choice.tops, strict=False))
             if tops and not is_blank(token)]  # fmt: skip
    if not shown:
        raise Unusable("no log-probabilities of the answer")
    if any(word.strip()[:1] in OPENING for word in words):
        return likely(choice, shown[0])
    first = next((place for place in shown if not is_opening(choice.tokens[place])), shown[0])
    after = (place for place in shown if place > first and _ends_a_lead("".join(choice.tokens[:place])))
    labelled = (place for place in (first, *after) if label_of(choice.tokens[place], words) is not None)
    return likely(choice, next(labelled, first))


def _ends_a_lead(text: str) -> bool:
    """Whether a text is one after which the answer proper comes: "Relevant: ", "<answer>"."""
    return text.translate(SPACES).rstrip(OPENING + "\n\t").endswith((":", "：", ">", "]"))


def likely(choice: Choice, place: int) -> Mapping[str, float]:
    """The alternatives of a token, one of which is likely at all: with any vocabulary the likeliest token is.

    Args:
        choice: an answer at temperature 0.
        place: number of the token.

    Raises:
        Unusable: none is; their probabilities would say nothing of one against the other. Or they are of another place,
            as some servers have given those of the first token with all of them: at temperature 0 the token that was
            written is the likeliest, or one as likely.
    """
    tops = choice.tops[place]
    highest = max(tops.values())
    if highest < _LEAST_LIKELIEST:
        raise Unusable(f"a log-probability of {highest:g} for the likeliest token, which no vocabulary gives")
    written = choice.tokens[place] if place < len(choice.tokens) else None
    value = choice.logprobs[place] if place < len(choice.logprobs) else None
    if written is not None and written not in tops and value is not None and value < highest - _AS_LIKELY:
        raise Unusable(f"{written!r} was written, and is not among the likeliest tokens in its place")
    return tops


def has_logprobs(choice: Choice, stop: Sequence[str] = ()) -> bool:
    """Whether an answer has the log-probability of each of its tokens, and its tokens are all of its text."""
    whole = choice.logprobs and None not in choice.logprobs and len(choice.tokens) <= len(choice.logprobs)
    return bool(whole and covers(choice.tokens, choice.text, stop)) or not choice.text


def check_logprobs(choice: Choice, stop: Sequence[str] = ()) -> None:
    """An answer of a server that gives log-probabilities has one of each of its tokens.

    Raises:
        Unusable: it has none, or too few, or shows a part of its tokens: the mean would be that of a part, or of
            nothing, which is certainty.
    """
    if not has_logprobs(choice, stop):
        raise Unusable("an answer without the log-probabilities of its tokens")


def _choice(choice: _ChoiceModel, thought: bool) -> Choice:
    message = choice.message
    content = (choice.text if message is None else message.content) or ""
    text = content if isinstance(content, str) else "".join(part.text or "" for part in content)
    thought = bool(thought or (message and (message.reasoning_content or message.reasoning)))
    finished, tokens = choice.finish_reason == "stop", choice.logprobs or _LogprobsModel()
    if tokens.content:
        values = _logprobs([token.logprob for token in tokens.content])
        first = _first_own([token.token for token in tokens.content], text, thought=thought) if message else 0
        own = tokens.content[first:]
        return Choice(
            _whole_characters(text),
            finished,
            [token.token for token in own],
            values[first:],
            [_of_list(token.top_logprobs or []) for token in own],
            thought=thought,
        )
    tops = [_of_pairs((top or {}).items()) for top in tokens.top_logprobs or []]
    texts, values, offsets = tokens.tokens or [], _logprobs(tokens.token_logprobs or []), tokens.text_offset or []
    return Choice(_whole_characters(text), finished, texts, values, tops, offsets, thought=thought)


def _first_own(tokens: Sequence[str], text: str, *, thought: bool) -> int:
    """The first token that is of the text, not of thinking that the server has taken out of the message alone."""
    first = first_of(tokens, text)
    if first is None:  # after thinking nothing says which are the answer's: then none
        return len(tokens) if thought else 0
    while first and not thought and is_blank(tokens[first - 1]):
        first -= 1
    return first


def _logprobs(values: Sequence[float | None]) -> list[float | None]:
    """Log-probabilities, none above 0.

    Raises:
        Unusable: all have the other sign, as of a server that gives what is lost and not what is likely; or one is
            further above 0 than rounding takes it.
    """
    known = [value for value in values if value is not None]
    highest = max(known, default=0.0)
    if known and min(known) >= 0 and highest > _ROUNDING:
        raise Unusable(f"the server gave positive log-probabilities, such as {highest:g}, and no negative one")
    if highest > _FEW_BITS:
        raise Unusable(f"the server gave a log-probability of {highest:g}; they are 0 at most")
    return [None if value is None else min(value, 0.0) for value in values]


def _of_list(tops: Iterable[_AlternativeModel]) -> dict[str, float]:
    return _of_pairs((top.token, top.logprob) for top in tops)


def _of_pairs(tops: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Alternatives by what they show; impossible ones are left out.

    Different tokens may show the same, as where a server decodes them one by one, and add up; one with the same value
    is the same one again.
    """
    found: dict[str, set[float]] = {}
    pairs = list(tops)
    for (token, _), value in zip(pairs, _logprobs([value for _, value in pairs]), strict=True):
        if value is not None and value > -math.inf:
            found.setdefault(token, set()).add(value)
    return {token: next(iter(of)) if len(of) == 1 else _sum_of(of) for token, of in found.items()}


def _sum_of(values: Iterable[float]) -> float:
    """The log-probability of one or the other."""
    highest = max(values)
    return min(highest + math.log(sum(math.exp(value - highest) for value in sorted(values))), 0.0)


def _whole_characters(text: str) -> str:
    """The text with halves of surrogate pairs joined, and with U+FFFD for one alone, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
