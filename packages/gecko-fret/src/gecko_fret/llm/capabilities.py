"""What a server can do with one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do with one model.

    Attributes:
        api: ``completions`` or ``chat``: how it is asked.
        generates: whether it writes text.
        echo: whether it returns the log-probabilities of a prompt's own tokens.
        alternatives: of how many likeliest tokens it returns the log-probabilities, at most; 0: of none.
        logprobs: whether it returns those of the tokens that it writes.
        system: whether it takes a system message.
        seed: whether it takes a seed.
        stop: whether it takes stop strings, and stops there.
        schema: whether it takes a JSON schema, and answers by it.
        thinks: whether it thinks before it answers, with what the configuration sends.
    """

    api: str
    generates: bool = True
    echo: bool = False
    alternatives: int = 0
    logprobs: bool = False
    system: bool = True
    seed: bool = True
    stop: bool = True
    schema: bool = False
    thinks: bool = False

    @property
    def logprobs_of_answers(self) -> dict[str, Any]:
        """What asks for the log-probabilities of the tokens that are written; nothing where there are none."""
        if not self.logprobs:
            return {}
        if self.api == "completions":
            return {"logprobs": 1}
        # llama-cpp-python shows none in chats where no number of alternatives is asked for.
        return {"logprobs": True} | ({"top_logprobs": 1} if self.alternatives else {})

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, see ``from_dict``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Capabilities | None:
        """What ``as_dict`` returned; None for what another version wrote."""
        try:
            return cls(**values)
        except TypeError:
            return None
