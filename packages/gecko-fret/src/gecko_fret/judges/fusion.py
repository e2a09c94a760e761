"""Several judges added up: a conditional logit over the standardised scores of a list, fitted on known items.

The model (McFadden 1974): the answer of an item is drawn from its candidates with

    P(c) = exp(sum_j w_j z_j(c)) / sum_c' exp(sum_j w_j z_j(c'))

where z_j are the scores of judge j, standardised within the list, and the weights w_j >= 0 maximise the likelihood of
the known answers under a ridge. Standardising makes judges of different units, and queries of different difficulty,
comparable; a judge that says the same of all candidates says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.randomness import generator

#: Ridges that cross-validation chooses from, per item.
RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

_SAMPLES = 2000
_FOLDS = 6
_ROUNDED = 4  # decimals of a weight: below what any fit can tell, and above how machines differ


@dataclass(frozen=True, slots=True)
class ScoredList:
    """The candidates of one item.

    Attributes:
        scores: (N, J), one column per judge, higher is better.
        answer: row of the known answer.
    """

    scores: np.ndarray
    answer: int


@dataclass(frozen=True, slots=True)
class Fusion:
    """The weights of the judges.

    Attributes:
        weights: by judge; 0: it adds nothing.
        ridge: strength of the ridge that cross-validation chose.
        items: number of known items that they were fitted on.
    """

    weights: Mapping[str, float]
    ridge: float
    items: int

    @property
    def useful(self) -> list[str]:
        """The judges whose weight is not 0."""
        return [name for name, weight in self.weights.items() if weight > 0]

    def probabilities(self, scores: Mapping[str, Sequence[float]]) -> np.ndarray:
        """The probability of each candidate of a list.

        Args:
            scores: N values for every judge with a weight; others are not read.

        Returns:
            (N,), summing to 1.
        """
        table = np.array([scores[name] for name in self.useful], dtype=np.float64).T
        return _softmax(standardise(table) @ np.array([self.weights[name] for name in self.useful]))


def standardise(scores: np.ndarray) -> np.ndarray:
    """Scores of one list with mean 0 and standard deviation 1 per judge; a judge without differences gets zeros.

    Args:
        scores: (N, J).
    """
    values = np.asarray(scores, dtype=np.float64)
    centred = values - values.mean(0)
    spread = centred.std(0)
    # Rounding leaves a spread of about 1e-16 of the values where all are equal.
    constant = spread <= 1e-12 * np.maximum(np.abs(values).max(0), 1e-300)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def fit(lists: Sequence[ScoredList], judges: Sequence[str], *, ridge: float | None = None, seed: int = 0) -> Fusion:
    """Fit the weights of the judges on items whose answers are known.

    A judge that cannot be told from chance by its own reciprocal rank (95%) gets weight 0, and so does one whose
    weight does not make held-out answers more probable.

    Args:
        lists: the items; (N, J) scores each, in the order of ``judges``.
        judges: their names.
        ridge: strength of the ridge; None: the best of ``RIDGES`` on held-out items.
        seed: of folds and resampling.
    """
    tables = [standardise(item.scores) for item in lists]
    answers = [item.answer for item in lists]
    folds = _folds(len(lists), seed)
    kept = [j for j in range(len(judges)) if above_chance([(item.scores[:, j], item.answer) for item in lists], seed)]
    chosen, best = _choose_ridge(tables, answers, kept, folds, ridge)
    kept = _drop_idle(tables, answers, kept, folds, chosen, best)
    weights = np.zeros(len(judges))
    if kept:
        weights[kept] = maximise([table[:, kept] for table in tables], answers, chosen)
    rounded = {name: round(float(weight), _ROUNDED) for name, weight in zip(judges, weights, strict=True)}
    return Fusion(rounded, chosen, len(lists))


def held_out(lists: Sequence[ScoredList], judges: Sequence[str], fusion: Fusion, seed: int = 0) -> list[np.ndarray]:
    """Fused scores of every item by weights that were fitted without it, for the judges that ``fusion`` uses."""
    kept = [place for place, name in enumerate(judges) if fusion.weights[name] > 0]
    tables = [standardise(item.scores)[:, kept] for item in lists]
    answers = [item.answer for item in lists]
    fused: list[np.ndarray] = [np.zeros(len(item.scores)) for item in lists]
    for fold in _folds(len(lists), seed) if kept else ():
        weights = _fit_without(tables, answers, fold, fusion.ridge)
        for number in fold:
            fused[number] = tables[number] @ weights
    return fused


def maximise(tables: Sequence[np.ndarray], answers: Sequence[int], ridge: float) -> np.ndarray:
    """Weights >= 0 of the highest penalised mean log-likelihood.

    Args:
        tables: standardised scores, (N_i, J).
        answers: rows of the answers.
        ridge: the penalty is ridge / 2 * sum of squares.

    Returns:
        (J,), the unique maximum up to the optimiser's tolerance.
    """
    from scipy.optimize import minimize

    flat = np.concatenate(tables)
    starts = np.cumsum([0, *(len(table) for table in tables[:-1])])
    picked = starts + np.array(answers)
    owner = np.repeat(np.arange(len(tables)), [len(table) for table in tables])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        utility = flat @ weights
        most = np.maximum.reduceat(utility, starts)
        scaled = np.exp(utility - most[owner])
        total = np.add.reduceat(scaled, starts)
        value = np.mean(np.log(total) + most - utility[picked]) + 0.5 * ridge * weights @ weights
        shares = scaled / total[owner]
        gradient = (shares @ flat - flat[picked].sum(0)) / len(tables) + ridge * weights
        return float(value), gradient

    width = flat.shape[1]
    found = minimize(
        loss,
        np.full(width, 0.5),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * width,
        options={"ftol": 1e-13, "gtol": 1e-9, "maxiter": 1000},
    )
    return np.asarray(found.x)


def reciprocal_rank(scores: np.ndarray, answer: int) -> float:
    """Expected 1 / rank of the answer, candidates with its score in random order around it."""
    above = int((scores > scores[answer]).sum())
    equal = int((scores == scores[answer]).sum())
    return float(np.mean(1.0 / np.arange(above + 1, above + equal + 1)))


def chance_reciprocal_rank(candidates: int) -> float:
    """Expected 1 / rank of a random order of ``candidates``."""
    return float(np.mean(1.0 / np.arange(1, candidates + 1)))


def above_chance(rankings: Sequence[tuple[np.ndarray, int]], seed: int = 0) -> bool:
    """Whether the mean reciprocal rank is above that of random orders, with 97.5% confidence (paired bootstrap).

    Args:
        rankings: scores (N,) and the row of the answer, by item.
        seed: of the resampling.
    """
    if not rankings:
        return False
    gains = np.array([reciprocal_rank(s, answer) - chance_reciprocal_rank(len(s)) for s, answer in rankings])
    draws = generator("judges", "chance", seed).integers(len(gains), size=(_SAMPLES, len(gains)))
    return float(np.quantile(gains[draws].mean(1), 0.025)) > 0


def _choose_ridge(
    tables: list[np.ndarray], answers: list[int], kept: list[int], folds: list[np.ndarray], ridge: float | None
) -> tuple[float, np.ndarray]:
    """The ridge with the most probable held-out answers, and their log-probabilities with it."""
    tried = {value: _held_out_logs(tables, answers, kept, folds, value) for value in ([ridge] if ridge else RIDGES)}
    chosen = max(tried, key=lambda value: (float(tried[value].mean()), value))
    return chosen, tried[chosen]


def _drop_idle(
    tables: list[np.ndarray],
    answers: list[int],
    kept: list[int],
    folds: list[np.ndarray],
    ridge: float,
    best: np.ndarray,
) -> list[int]:
    """Without the judges whose absence leaves held-out answers as probable, the least useful one first."""
    while len(kept) > 1:
        without = {j: _held_out_logs(tables, answers, [k for k in kept if k != j], folds, ridge) for j in kept}
        idle = max(without, key=lambda j: (float(without[j].mean()), -j))
        if without[idle].mean() < best.mean():
            break
        kept, best = [k for k in kept if k != idle], without[idle]
    return kept


def _held_out_logs(
    tables: list[np.ndarray], answers: list[int], kept: list[int], folds: list[np.ndarray], ridge: float
) -> np.ndarray:
    """Log-probability of every answer by weights that were fitted without its fold."""
    logs = np.array([-np.log(len(table)) for table in tables])
    if kept:
        chosen = [table[:, kept] for table in tables]
        for fold in folds:
            weights = _fit_without(chosen, answers, fold, ridge)
            for number in fold:
                logs[number] = np.log(_softmax(chosen[number] @ weights)[answers[number]])
    return logs


def _fit_without(tables: list[np.ndarray], answers: list[int], fold: np.ndarray, ridge: float) -> np.ndarray:
    left_out = set(fold.tolist())
    rest = [number for number in range(len(tables)) if number not in left_out]
    return maximise([tables[number] for number in rest], [answers[number] for number in rest], ridge)


def _folds(items: int, seed: int) -> list[np.ndarray]:
    order = generator("judges", "folds", seed).permutation(items)
    return [fold for fold in np.array_split(order, min(_FOLDS, items)) if 0 < len(fold) < items]


def _softmax(values: np.ndarray) -> np.ndarray:
    scaled = np.exp(values - values.max())
    return scaled / scaled.sum()
