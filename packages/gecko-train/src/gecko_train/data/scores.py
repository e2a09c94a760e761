"""Which scores of FRet's candidates are the targets of training, as the teacher's logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.errors import ConfigError
from gecko_fret import Candidate, FretRow

#: CADeT's teacher temperature for scores scaled to 0..1 (arXiv 2505.19274).
SCALED_TEMPERATURE = 0.3
#: Smallest probability whose logarithm is taken: far below what a softmax over a list tells from 0.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Targets:
    """Candidates to teacher logits, higher is better.

    Attributes:
        name: the judge, ``fused``, or ``probability`` (of the calibrated fusion).
        low: of this value and below the logit is 0; 0 where values are not scaled.
        scale: of a value's distance from ``low``.
        high: values above count as this one.
    """

    name: str
    low: float = 0.0
    high: float = float("inf")
    scale: float = 1.0

    @classmethod
    def choose(
        cls, rows: Sequence[FretRow], score: str | None = None, teacher_temperature: float | None = None
    ) -> Targets:
        """Choose targets for the rows of a data set.

        Calibrated probabilities are taken as their logarithms, which are logits at temperature 1 by construction. Any
        other score is clipped to its 1st and 99th percentile over the data set and scaled to 0..1 (CADeT), then divided
        by CADeT's temperature unless the recipe names one, which the term of the loss applies. Fused scores (of folders
        without probabilities) are left as they are where the recipe names a teacher temperature, as always.

        Args:
            rows: the rows; read twice.
            score: a judge's name; None: probabilities, or ``fused`` where there are none.
            teacher_temperature: the recipe's; None: the default.

        Raises:
            ConfigError: no row has a score of that name.
        """
        if score is None:
            first = next(iter(rows), None)
            if first is not None and any(
                _value(candidate, "probability") is not None for candidate in first.candidates
            ):
                return cls("probability")
            if teacher_temperature is not None:
                return cls("fused")
        name, known = score or "fused", {"fused", "similarity"}
        values: list[float] = []
        for row in rows:
            values.extend(_number(candidate, name) for candidate in row.candidates)
            known.update(*(candidate.scores for candidate in row.candidates))
        finite = np.array(values)[np.isfinite(values)]
        if not len(finite):
            raise ConfigError(
                f"objective: no candidate has a score {name!r}; the scores here: {', '.join(sorted(known))}"
            )
        low, high = np.percentile(finite, [1, 99]).tolist()
        width = (high - low) or 1.0
        return cls(name, low, high, 1 / width if teacher_temperature is not None else 1 / (width * SCALED_TEMPERATURE))

    @property
    def logarithms(self) -> bool:
        """Whether logits are logarithms of probabilities."""
        return self.name == "probability"

    def logits(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """The logit of every candidate, NaN where nobody judged it; (N,) float64."""
        values = np.array([_number(candidate, self.name) for candidate in candidates])
        if self.logarithms:
            return np.log(np.maximum(values, _SMALLEST))
        return (np.clip(values, self.low if self.scaled else -np.inf, self.high) - self.low) * self.scale

    @property
    def scaled(self) -> bool:
        """Whether values are clipped and scaled."""
        return np.isfinite(self.high)


def likely_answers(logits: np.ndarray, share: float, logarithms: bool) -> np.ndarray:  # (N,) -> (N,) bool
    """Which candidates are above a share of the best: of its probability, or of its scaled score.

    Args:
        logits: NaN for what nobody judged, which is no likely answer.
        share: between 0 and 1.
        logarithms: whether logits are logarithms of probabilities.
    """
    if not np.isfinite(logits).any():
        return np.zeros(len(logits), dtype=bool)
    best = np.nanmax(logits)
    with np.errstate(invalid="ignore"):
        above: np.ndarray = np.exp(logits - best) > share if logarithms else logits > share * best
    return above


def _value(candidate: Candidate, name: str) -> float | None:
    if name in candidate.scores:
        return candidate.scores[name]
    own = {"probability": candidate.probability, "fused": candidate.fused, "similarity": candidate.similarity}
    return own.get(name)


def _number(candidate: Candidate, name: str) -> float:
    value = _value(candidate, name)
    return float("nan") if value is None else float(value)
