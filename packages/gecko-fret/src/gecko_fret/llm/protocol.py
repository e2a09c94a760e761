"""What the steps ask of a language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from gecko_fret.llm.capabilities import Capabilities
    from gecko_fret.llm.config import LLMConfig


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: most tokens of a completion.
        temperature: 0 takes the likeliest token.
        top_p: probability of the smallest set of tokens that is drawn from.
        top_k: most tokens that are drawn from.
        stop: a completion ends before any of these strings.
        contrast: how much of a token's log-probability without the passage is taken off that with it, see
            ``gecko_fret.llm.sampling.contrasted``; needs ``WriteRequest.without``. Backends in ``CONTRASTIVE`` can.
        plausible: where that is done, a token needs at least this share of the likeliest token's probability.
    """

    max_new_tokens: int = 40
    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 50
    stop: tuple[str, ...] = ("\n\n",)
    contrast: float = 0.0
    plausible: float = 0.2


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One completion to write after prefix + body.

    Attributes:
        prefix: one of a few that many requests share.
        body: the text after it.
        seed: alone decides the request's random numbers.
        without: the body without its passage, for ``Sampling.contrast``.
        dialogue: the same before it was text, for servers that take nothing but chats.
    """

    prefix: str
    body: str
    seed: int
    without: str = ""
    dialogue: Dialogue | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A few-shot prompt before it is text: as one text or, where the model has a template for them, as turns.

    Attributes:
        instruction: what to do.
        shown: demonstrations, what is asked and what is answered.
        asked: what the model answers.
        form: the form of an answer for servers that take a JSON schema; None: text is asked for.
    """

    instruction: str
    shown: tuple[tuple[str, str], ...]
    asked: str
    form: JsonForm | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class JsonForm:
    """The answer to a dialogue as JSON, and how it is put into the form that the prompt shows.

    Attributes:
        model: what an answer holds; its JSON schema is sent, and it alone reads what comes.
        shown: the answers of the demonstrations.
        as_text: from an answer to text of the prompt's own form, which is read like any other.
    """

    model: type[BaseModel]
    shown: tuple[BaseModel, ...]
    as_text: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the LLM wrote for a request.

    Attributes:
        text: up to the stop string.
        logprob: mean log-probability per token.
        tokens: number of tokens written.
        finished: whether it came to a stop before ``max_new_tokens``.
    """

    text: str
    logprob: float
    tokens: int
    finished: bool


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One row to score: prefix, context, continuation, tail and then a label.

    Attributes:
        prefix: one of a few that many requests share.
        context: what the continuation is conditioned on.
        continuation: its tokens are scored.
        tail: what stands between the continuation and the label.
        dialogue: the same before it was text, for servers that take nothing but chats.
    """

    prefix: str
    context: str
    continuation: str = ""
    tail: str = ""
    dialogue: Dialogue | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of a request.

    Attributes:
        logprob: mean log-probability per token of the continuation; nan for an empty one.
        tokens: number of tokens of the continuation.
        labels: probabilities of the labels, summing to 1.
        bound: where a server did not show all labels, the most that each of the others can have of the whole
            vocabulary's probability, which it is given; else 0.
    """

    logprob: float
    tokens: int
    labels: tuple[float, ...] = ()
    bound: float = 0.0


@dataclass(slots=True)
class Usage:
    """Tokens counted since the model was loaded.

    Attributes:
        prompt_tokens: depends on the requests alone, so that it may be written into parts. Backends that leave the
            sharing of prefixes to their engine count whole prompts.
        prefix_tokens: of shared prefixes, counted once, when they are first computed.
        generated_tokens: written, thinking included.
        requests: answered.
        thinking_tokens: of those written, thinking that the server counts apart.
        labels_sampled: label requests answered by samples, because the server shows no log-probabilities.
        labels_bounded: label requests of which not all labels were shown.
        labels_bound_ppm: sum of their bounds (``Scored.bound``), in millionths.
    """

    prompt_tokens: int = 0
    prefix_tokens: int = 0
    generated_tokens: int = 0
    requests: int = 0
    thinking_tokens: int = 0
    labels_sampled: int = 0
    labels_bounded: int = 0
    labels_bound_ppm: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return asdict(self)

    def add(self, other: Usage) -> None:
        """Count what ``other`` counted, too."""
        for name, count in asdict(other).items():
            setattr(self, name, getattr(self, name) + count)

    def label_notes(self) -> Counter[str]:
        """How labels were read where not all of them were shown."""
        return Counter({name: count for name, count in asdict(self).items() if name.startswith("labels_")})


@runtime_checkable
class LLM(Protocol):
    """A language model.

    Results come in the order of the requests and do not depend on what else is in the call beyond rounding. Equal calls
    give equal results where the backend can promise that (``transformers`` on one machine).
    """

    name: str
    fingerprint: str
    usage: Usage

    def truncate(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        """Cut each text, at its end, to at most ``max_tokens`` tokens."""
        ...

    def generate(self, requests: Sequence[WriteRequest], sampling: Sampling) -> list[Completion]:
        """Complete prefix + body of every request."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], labels: Sequence[str] = (), *, blocks: bool = False
    ) -> list[Scored]:
        """Score every request's continuation and labels.

        Args:
            requests: the rows.
            labels: each must be one token after what precedes it.
            blocks: compute what requests of one prefix and context have in common once, where the backend can. The
                scores are the same up to rounding.

        Returns:
            The log-probability of each continuation, and P(label | prefix, context, continuation, tail) normalised
            over ``labels``.
        """
        ...

    def close(self) -> None:
        """Release memory, connections and processes; closing twice does no harm."""
        ...


@runtime_checkable
class ChatLLM(LLM, Protocol):
    """An LLM that knows its model's chat template."""

    def chat(self, dialogue: Dialogue) -> tuple[str, str] | None:
        """Prefix and body of the dialogue as the template writes it; None where the model has no template."""
        ...


class ServedLLM(LLM, Protocol):
    """An LLM behind a server of which is not known beforehand what it can do, and which may cost money."""

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do; it is asked unless that is known."""
        ...

    def recall(self, record: Mapping[str, Any]) -> None:
        """Go on where an earlier run was, which returned this from ``record``."""
        ...

    def record(self) -> dict[str, Any]:
        """What the server can do and what has been spent on it, as JSON values."""
        ...

    def charge(self, prompt_tokens: int, generated_tokens: int) -> None:
        """Count what another process has spent on the server."""
        ...

    def interrupt(self) -> None:
        """End calls that wait for the server with an error; there will be no others."""
        ...


def is_served(llm: LLM) -> TypeGuard[ServedLLM]:
    """Whether an LLM is one behind a server; nothing of it is read.

    ``isinstance`` with a protocol reads every property up to Python 3.11, and ``capabilities`` asks the server.
    """
    return all(hasattr(type(llm), name) for name in ("capabilities", "recall", "record", "charge", "interrupt"))


class Backend(LLM, Protocol):
    """A class in ``gecko_fret.llm.BACKENDS``: an LLM that a configuration section describes."""

    @classmethod
    def load(cls, config: LLMConfig) -> LLM:
        """Load the model of a configuration section; see ``gecko_fret.llm.load_llm``."""
        ...

    @classmethod
    def fingerprint_of(cls, config: LLMConfig) -> str:
        """What decides the model's answers, known without loading it; it must never change for the same answers."""
        ...
