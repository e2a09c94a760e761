"""What a build will do and cost, computed before it starts: every step adds its share, in the order of the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gecko_fret.config import FretConfig

TEMPLATE_TOKENS = 12
_TOKENS_PER_CHARACTER = 0.25  # English text; used only where no build has been measured


@dataclass(frozen=True, slots=True)
class Measured:
    """What a finished build counted. Seconds are of its machine and models, loading the models included.

    ``threads`` are torch's on the CPU; None where the build had a GPU, or does not say.
    """

    counts: Mapping[str, int]
    rejects: Mapping[str, Mapping[str, int]]
    tokens: Mapping[str, Mapping[str, int]]
    seconds: Mapping[str, float]
    config: Mapping[str, Any]
    threads: int | None = None

    def rate(self, part: float, of: str) -> float:
        """The share ``part`` of what the build counted as ``of``; 1, the most that it can be, where that is nothing."""
        return part / self.counts[of] if self.counts[of] else 1.0

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Measured:
        """The measurements in a manifest."""
        seconds = {name: stage["seconds"] for name, stage in manifest["stages"].items()}
        environment = manifest.get("environment", {})
        threads = environment.get("threads") if environment.get("gpu") is None else None
        return cls(manifest["counts"], manifest["rejects"], manifest["tokens"], seconds, manifest["config"], threads)


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step costs: requests to the LLM, tokens read and written (shared prefixes left out), measured seconds.

    ``line`` describes the step in the plan. Not ``measured``: the finished build had nothing to do in this step, and
    how long it takes is not known.
    """

    line: str
    requests: float = 0.0
    read: float = 0.0
    written: float = 0.0
    seconds: float = 0.0
    measured: bool = True


@dataclass(slots=True)
class Plan:
    """The plan of a build.

    Attributes:
        config: the build's configuration.
        corpus: name of the corpus.
        passages: number of its passages.
        mean_characters: their mean length.
        like: a finished build whose acceptance rates and throughput are used; without one every attempt is taken to
            become a row, which gives upper bounds.
        rows: expected number of rows, by the name under which a step counts its rows.
        costs: the steps' costs by name.
    """

    config: FretConfig
    corpus: str
    passages: int
    mean_characters: float
    like: Measured | None = None
    rows: dict[str, float] = field(default_factory=dict)
    costs: dict[str, StepCost] = field(default_factory=dict)

    @property
    def bound(self) -> str:
        """How sure the numbers are, as a word."""
        return "about" if self.like else "at most"

    def text_tokens(self, most: int) -> float:
        """Tokens of a passage of which the LLM reads ``most`` at most."""
        return min(self.mean_characters * _TOKENS_PER_CHARACTER, most)

    @property
    def requests(self) -> float:
        """Requests to the LLM."""
        return sum(cost.requests for cost in self.costs.values())

    @property
    def read(self) -> float:
        """Tokens read by the LLM."""
        return sum(cost.read for cost in self.costs.values())

    @property
    def written(self) -> float:
        """Tokens written by the LLM."""
        return sum(cost.written for cost in self.costs.values())

    @property
    def measured_seconds(self) -> float:
        """Time of the LLM at the throughput of the measured build."""
        return sum(cost.seconds for cost in self.costs.values())

    def seconds(self, read_per_second: float, written_per_second: float) -> float:
        """Time of the LLM at a given throughput of reading and writing."""
        return self.read / read_per_second + self.written / written_per_second
