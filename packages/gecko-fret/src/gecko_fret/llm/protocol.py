"""What the stages ask of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. Temperature 0 takes the likeliest token. A completion ends before any stop string."""

    max_new_tokens: int = 40
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 50
    stop: tuple[str, ...] = ("\n\n",)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One completion to write after prefix + body. The prefix is one of a few that many rows share; the seed alone
    decides the row's random numbers."""

    prefix: str
    body: str
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """Text written by the LLM up to the stop string; mean log-probability per token; `finished`: it did stop."""

    text: str
    logprob: float
    tokens: int
    finished: bool


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One row to score: prefix (shared by many rows), context, continuation (its tokens are scored), tail, label."""

    prefix: str
    context: str
    continuation: str = ""
    tail: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """The continuation's mean log-probability per token (0 tokens: nan) and the labels' probabilities, summing to 1."""

    logprob: float
    tokens: int
    labels: tuple[float, ...] = ()


@dataclass(slots=True)
class Usage:
    """Tokens counted since the model was made.

    `prompt_tokens` depends on the requests alone, so that it may be written into parts; shared prefixes, computed when
    first met, are counted apart. Backends that do not share them on our side count whole prompts.
    """

    prompt_tokens: int = 0
    prefix_tokens: int = 0
    generated_tokens: int = 0
    requests: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


@runtime_checkable
class LLM(Protocol):
    """A language model. Results come in the order of the requests and do not depend on what else is in the call
    beyond rounding; equal calls give equal results where the backend can promise that (`transformers` on one machine).
    """

    name: str
    fingerprint: str
    usage: Usage

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Each text cut, at its end, to at most `max_tokens` tokens."""
        ...

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """Completes prefix + body of every request."""
        ...

    def score(self, requests: Sequence[ScoreRequest], labels: Sequence[str] = ()) -> list[Scored]:
        """Log-probability of every request's continuation, and P(label | prefix, context, continuation, tail)
        normalised over `labels`, each of which must be one token after what precedes it."""
        ...

    def close(self) -> None:
        """Gives back memory, connections and processes. Calling it twice does no harm."""
        ...


@dataclass(slots=True)
class LabelTokens:
    """Labels as single tokens after a common lead-in, see `label_tokens`."""

    lead: list[int]
    ids: list[int] = field(default_factory=list)


def label_tokens(encoded: Sequence[Sequence[int]]) -> LabelTokens | None:
    """Splits the labels' encodings into their longest common lead-in (often a space) and one token each.

    None when the labels cannot be told apart by one token.
    """
    lead: list[int] = []
    while all(len(ids) > len(lead) + 1 for ids in encoded) and len({ids[len(lead)] for ids in encoded}) == 1:
        lead.append(encoded[0][len(lead)])
    ids = [row[len(lead)] for row in encoded if len(row) == len(lead) + 1]
    if len(ids) != len(encoded) or len(set(ids)) != len(ids):
        return None
    return LabelTokens(lead, ids)
