"""What the judges are worth, as numbers: from the known items' scores to weights, the manifest and the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from gecko_core.errors import DataError
from gecko_core.randomness import generator
from gecko_fret.config import FretConfig
from gecko_fret.judges.fusion import Fusion, ScoredList, chance_reciprocal_rank, fit, held_out, reciprocal_rank
from gecko_fret.steps.known_items import FITTED, SEEDS, SENTENCES, TITLES
from gecko_fret.steps.parts import dictionary_of

_SAMPLES = 2000
FUSED, CHANCE, STUDENT = "fused", "chance", "similarity"

#: The items that the judges were fitted on, of both kinds.
KNOWN = "known"


@dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """A candidate of a known item, with every judge's value."""

    id: str
    scores: dict[str, Annotated[float, pa.float64()]]


@dataclass(frozen=True, slots=True)
class MeasuredItem:
    """A query whose answer is known, judged; the columns of the parts."""

    id: str
    kind: str
    query: str
    answer_id: str
    candidates: list[MeasuredCandidate] = field(default_factory=list)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> MeasuredItem:
        """A row of the parts."""
        candidates = [MeasuredCandidate(row["id"], dictionary_of(row["scores"])) for row in record["candidates"]]
        return cls(**record | {"candidates": candidates})


@dataclass(frozen=True, slots=True)
class Measured:
    """One way to rank the candidates of known items.

    Attributes:
        mrr: mean reciprocal rank of the answer.
        low: lower end of its 95% interval (bootstrap over items).
        high: upper end.
        ndcg: mean nDCG@10 with the answer as the only relevant candidate.
        above_student: difference of its mean reciprocal rank to that of the similarity; None where nobody asked it.
        above_student_low: lower end of the difference's 95% interval (paired bootstrap).
        above_student_high: upper end.
    """

    mrr: float
    low: float
    high: float
    ndcg: float
    above_student: float | None = None
    above_student_low: float | None = None
    above_student_high: float | None = None


def fit_judges(items: Sequence[MeasuredItem], config: FretConfig) -> Fusion:
    """Fit the judges' weights on the known items that no LLM wrote.

    Raises:
        DataError: no judge is better than chance.
    """
    names = config.score.all_judges
    lists = scored_lists([item for item in items if item.kind in FITTED], names)
    fusion = fit(lists, names, ridge=config.measure.ridge, seed=config.seed)
    if not fusion.useful:
        raise DataError(
            f"none of the judges {', '.join(names)} finds the passages of {len(lists)} known items better than chance; "
            "measure more (measure.items), or choose other judges (score.judges), a larger llm.model, or mine.fuse: rrf"
        )
    return fusion


def scored_lists(items: Sequence[MeasuredItem], names: Sequence[str]) -> list[ScoredList]:
    """Items as arrays, one column per judge."""
    return [
        ScoredList(
            np.array([[candidate.scores[name] for name in names] for candidate in item.candidates]),
            [candidate.id for candidate in item.candidates].index(item.answer_id),
        )
        for item in items
    ]


def summary(items: Sequence[MeasuredItem], judges: Sequence[str], fusion: Fusion, seed: int) -> dict[str, Any]:
    """Everything that the manifest keeps of the measurement, as JSON values.

    Args:
        items: the measured items of all kinds.
        judges: all judges.
        fusion: their weights, fitted on titles and sentences.
        seed: of the resampling.
    """
    known = [item for item in items if item.kind in FITTED]
    fused_by_item = dict(
        zip([item.id for item in known], held_out(scored_lists(known, judges), judges, fusion, seed), strict=True)
    )
    kinds: dict[str, Any] = {}
    for name, members in {KNOWN: FITTED, TITLES: (TITLES,), SENTENCES: (SENTENCES,), SEEDS: (SEEDS,)}.items():
        chosen = [item for item in items if item.kind in members]
        lists = scored_lists(chosen, judges)
        if lists:
            fused = [
                fused_by_item[item.id] if item.id in fused_by_item else fusion.probabilities(_columns(table, judges))
                for item, table in zip(chosen, lists, strict=True)
            ]
            kinds[name] = {
                "items": len(lists),
                "candidates": round(float(np.mean([len(item.scores) for item in lists])), 1),
                "rankings": {name: asdict(value) for name, value in _rankings(lists, judges, fused, seed).items()},
                "agreement": _agreement(lists, judges),
            }
    return {"weights": dict(fusion.weights), "ridge": fusion.ridge, "measured_on": kinds}


def _columns(item: ScoredList, judges: Sequence[str]) -> Mapping[str, Sequence[float]]:
    return {name: item.scores[:, place].tolist() for place, name in enumerate(judges)}


def _rankings(
    lists: Sequence[ScoredList], judges: Sequence[str], fused: Sequence[np.ndarray], seed: int
) -> dict[str, Measured]:
    answers = [item.answer for item in lists]
    columns = {name: [item.scores[:, place] for item in lists] for place, name in enumerate(judges)} | {FUSED: fused}
    ranks = {name: _each(reciprocal_rank, scores, answers) for name, scores in columns.items()}
    gains = {name: _each(_ndcg, scores, answers) for name, scores in columns.items()}
    ranks[CHANCE] = np.array([chance_reciprocal_rank(len(item.scores)) for item in lists])
    gains[CHANCE] = np.array([_discounts(len(item.scores)).mean() for item in lists])
    draws = generator("judges", "intervals", seed).integers(len(lists), size=(_SAMPLES, len(lists)))
    student = ranks.get(STUDENT)
    measured = {}
    for name, values in ranks.items():
        low, high = _interval(values, draws, least=0.0)
        above: dict[str, float] = {}
        if student is not None and name != STUDENT:
            difference = values - student
            ends = _interval(difference, draws, least=-1.0)
            above = {
                "above_student": _short(difference.mean()),
                "above_student_low": _short(ends[0]),
                "above_student_high": _short(ends[1]),
            }
        measured[name] = Measured(_short(values.mean()), _short(low), _short(high), _short(gains[name].mean()), **above)
    return measured


def _interval(values: np.ndarray, draws: np.ndarray, least: float) -> tuple[float, float]:
    """95% interval of the mean: the bootstrap's, for few items as much wider as Student's t is (Hesterberg 2015).

    The same as ``gecko_eval.report.paired_bootstrap`` has, on which this package does not depend. Of one item nothing
    can be said but what reciprocal ranks, and their differences, can be: ``least`` to 1.
    """
    from scipy.special import stdtrit

    count, centre = len(values), float(values.mean())
    if count == 1:
        return least, 1.0
    wider = math.sqrt(count / (count - 1)) * stdtrit(count - 1, 0.975) / stdtrit(math.inf, 0.975)
    low, high = centre + wider * (np.quantile(values[draws].mean(1), [0.025, 0.975]) - centre)
    return max(least, float(low)), min(1.0, float(high))


def _each(
    measure: Callable[[np.ndarray, int], float], scores: Sequence[np.ndarray], answers: Sequence[int]
) -> np.ndarray:
    return np.array([measure(s, answer) for s, answer in zip(scores, answers, strict=True)])


def _ndcg(scores: np.ndarray, answer: int) -> float:
    """Expected nDCG@10 of one relevant candidate, candidates with its score in random order around it."""
    above = int((scores > scores[answer]).sum())
    equal = int((scores == scores[answer]).sum())
    return float(_discounts(above + equal)[above:].mean())


def _discounts(count: int) -> np.ndarray:
    places = np.arange(1, count + 1)
    return np.where(places <= 10, 1.0 / np.log2(places + 1), 0.0)


def _agreement(lists: Sequence[ScoredList], judges: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean Spearman correlation of every two judges over the lists; a judge without differences agrees with nobody."""
    from scipy.stats import rankdata

    total = np.zeros((len(judges), len(judges)))
    for item in lists:
        ranks = rankdata(item.scores, axis=0)
        centred = ranks - ranks.mean(0)
        norms = np.linalg.norm(centred, axis=0)
        unit = np.where(norms > 0, centred / np.where(norms > 0, norms, 1.0), 0.0)
        total += unit.T @ unit
    table = total / len(lists)
    return {a: {b: _short(table[i, j]) for j, b in enumerate(judges)} for i, a in enumerate(judges)}


def _short(value: float) -> float:
    return round(float(value), 4)
