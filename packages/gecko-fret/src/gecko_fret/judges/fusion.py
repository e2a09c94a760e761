"""Several judges added up: a conditional logit over the standardised scores of a list, fitted on known items.

The model (McFadden 1974): the answer of an item is drawn from its candidates with

    P(c) = exp(sum_j w_j z_j(c)) / sum_c' exp(sum_j w_j z_j(c'))

where z_j are the scores of judge j, standardised within the list. Standardising makes judges of different units, and
queries of different difficulty, comparable; a judge that says the same of all candidates says nothing.

The weights w_j >= 0 maximise the likelihood of the known answers, less a ridge that draws them towards the weights of
independent judges: each one's own weight when it is asked alone, all scaled by one factor (naive Bayes). Known items
are not the queries of users. What each judge is worth alone carries over from titles to queries; how far one makes
another superfluous does so less, and a plain maximum of the likelihood drops a good judge because a better one knows
the same of titles. And known items are made of the corpus' own words, which overrates the judges that go by a query's
words, ``ql`` and ``bm25``: an LLM knows which text a sentence was torn from. None of them weighs more than the
embedder's similarity, where that can be told from chance (docs/log.md, 2026-11-26, has what it is worth).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gecko_core.randomness import generator

#: Ridges that cross-validation chooses from. At 1 it is about twice as stiff as the likelihood of two good judges.
RIDGES = (1.0, 3.0, 10.0)

#: Judges that go by the words of the query, and the one that none of them may outweigh.
WORD_JUDGES, SIMILARITY = ("ql", "bm25"), "similarity"

_SAMPLES = 2000
_FOLDS = 6
_ALONE = 0.03  # ridge towards 0 of a judge alone: one that is always right has no finite weight
_NEGLIGIBLE = 0.1  # of the largest weight: less moves no label
_ROUNDED = 4  # decimals of a weight: below what any fit can tell, and above how machines differ
_DIGITS = 12  # decimals of a weighted sum of standard scores; what is beyond depends on the order of the candidates


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
            (N,), summing to 1; equal where all scores are, or their weighted sums but for rounding.

        Raises:
            ValueError: no judge has a weight; a judge's scores are missing, are not as many as another's, or are not
                finite.
        """
        table = standardise(self._columns(scores))
        # Column by column: a matrix product may round equal rows differently, and exp equal numbers of one array.
        utility = np.zeros(len(table))
        for column, name in zip(table.T, self.useful, strict=True):
            utility += self.weights[name] * column
        values, place = np.unique(np.round(utility, _DIGITS), return_inverse=True)
        return _softmax(values, place)

    def _columns(self, scores: Mapping[str, Sequence[float]]) -> np.ndarray:
        """(N, J): the scores of the judges that have a weight."""
        if not self.useful:
            raise ValueError("no judge has a weight above 0, so that nothing tells the candidates apart")
        if missing := [name for name in self.useful if name not in scores]:
            raise ValueError(f"no scores by {missing[0]}, which has a weight; there are those by {', '.join(scores)}")
        counts = {name: len(scores[name]) for name in self.useful}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} by {name}" for name, count in counts.items())
            raise ValueError(f"every judge must score every candidate of a list once; there are scores {listed}")
        return np.array([scores[name] for name in self.useful], dtype=np.float64).T


def standardise(scores: np.ndarray) -> np.ndarray:
    """Scores of one list with mean 0 and standard deviation 1 per judge; a judge without differences gets zeros.

    Args:
        scores: (N, J), finite.

    Raises:
        ValueError: a score is infinite or no number.
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        row, column = (int(place) for place in np.argwhere(~np.isfinite(values))[0])
        raise ValueError(f"score {column} of candidate {row} is {values[row, column]}; scores must be finite")
    # By powers of two, which round nothing: squares of very large scores would leave float64.
    values = np.ldexp(values, -np.frexp(np.abs(values).max(0, initial=0.0))[1])
    centred = values - values.mean(0)
    spread = centred.std(0)
    # Rounding leaves a spread of about 1e-16 of the values where all are equal.
    constant = spread <= 1e-12 * np.maximum(np.abs(values).max(0), 1e-300)
    return np.where(constant, 0.0, centred / np.where(constant, 1.0, spread))


def fit(
    lists: Sequence[ScoredList],
    judges: Sequence[str],
    *,
    ridge: float | None = None,
    seed: int = 0,
) -> Fusion:
    """Fit the weights of the judges on items whose answers are known.

    Weight 0 goes to a judge that cannot be told from chance by its own reciprocal rank, and to one whose weight is
    below a tenth of the largest. A judge that is good alone stays even where another one knows these items as well, or
    never errs on them: they are easier than the queries to come. None of ``WORD_JUDGES`` weighs more than
    ``SIMILARITY``.

    Args:
        lists: the items; (N, J) scores each, in the order of ``judges``.
        judges: their names.
        ridge: strength of the ridge; None: the best of ``RIDGES`` on held-out items.
        seed: of folds and resampling.
    """
    items = _Items.of(lists, judges, seed)
    kept = [j for j in range(len(judges)) if above_chance([(item.scores[:, j], item.answer) for item in lists], seed)]
    tried = {value: items.held_out(kept, value).mean() for value in ([ridge] if ridge else RIDGES)}
    chosen = max(tried, key=lambda value: (float(tried[value]), value))
    weights = items.fit(kept, chosen)
    while kept and weights.min() < _NEGLIGIBLE * weights.max():
        kept = [j for j, weight in zip(kept, weights, strict=True) if weight > weights.min()]
        weights = items.fit(kept, chosen)
    all_weights = dict.fromkeys(judges, 0.0)
    for j, weight in zip(kept, weights.tolist(), strict=True):
        all_weights[judges[j]] = round(weight, _ROUNDED)
    return Fusion(all_weights, chosen, len(lists))


def held_out(lists: Sequence[ScoredList], judges: Sequence[str], fusion: Fusion, seed: int = 0) -> list[np.ndarray]:
    """Fused scores of every item by weights that were fitted without it, for the judges that ``fusion`` uses."""
    kept = [place for place, name in enumerate(judges) if fusion.weights[name] > 0]
    items = _Items.of(lists, judges, seed)
    fused: list[np.ndarray] = [np.zeros(len(item.scores)) for item in lists]
    for fold in items.folds if kept else ():
        weights = items.fit(kept, fusion.ridge, without=fold)
        for number in fold:
            fused[number] = items.tables[number][:, kept] @ weights
    return fused


@dataclass(frozen=True)
class _Items:
    """Known items as standardised tables, and how they are split for cross-validation."""

    tables: Sequence[np.ndarray]
    answers: Sequence[int]
    judges: Sequence[str]
    seed: int

    @classmethod
    def of(cls, lists: Sequence[ScoredList], judges: Sequence[str], seed: int) -> _Items:
        return cls([standardise(item.scores) for item in lists], [item.answer for item in lists], judges, seed)

    @cached_property
    def folds(self) -> list[np.ndarray]:
        count = len(self.tables)
        order = generator("judges", "folds", self.seed).permutation(count)
        return [fold for fold in np.array_split(order, min(_FOLDS, count)) if 0 < len(fold) < count]

    def fit(self, kept: Sequence[int], ridge: float, without: np.ndarray | None = None) -> np.ndarray:
        """Weights of the judges that are kept, fitted on all items but those of one fold."""
        if not kept:
            return np.zeros(0)
        left_out = set() if without is None else set(without.tolist())
        rest = [number for number in range(len(self.tables)) if number not in left_out]
        tables = [self.tables[number][:, list(kept)] for number in rest]
        answers = [self.answers[number] for number in rest]
        weights = maximise(tables, answers, ridge, independent_weights(tables, answers))
        capped = self._capped([self.judges[j] for j in kept], weights)
        return weights if capped is weights else _rescaled(tables, answers, capped)

    def _capped(self, names: Sequence[str], weights: np.ndarray) -> np.ndarray:
        """The weights, those of word judges at most the similarity's."""
        if SIMILARITY not in names or not weights[names.index(SIMILARITY)]:
            return weights
        most = weights[names.index(SIMILARITY)]
        limits = np.array([most if name in WORD_JUDGES else np.inf for name in names])
        return np.minimum(weights, limits) if (weights > limits).any() else weights

    def held_out(self, kept: Sequence[int], ridge: float) -> np.ndarray:
        """Log-probability of every answer by weights that were fitted without its fold."""
        logs = np.array([-np.log(len(table)) for table in self.tables])
        for fold in self.folds if kept else ():
            weights = self.fit(kept, ridge, without=fold)
            for number in fold:
                utility = self.tables[number][:, list(kept)] @ weights
                logs[number] = utility[self.answers[number]] - _log_sum_exp(utility)
        return logs


def independent_weights(tables: Sequence[np.ndarray], answers: Sequence[int]) -> np.ndarray:
    """Weights of judges that know nothing of each other: each one's alone, all scaled by the best common factor.

    Args:
        tables: standardised scores, (N_i, J).
        answers: rows of the answers.

    Returns:
        (J,).
    """
    width = tables[0].shape[1]
    alone = [maximise([table[:, [j]] for table in tables], answers, _ALONE, np.zeros(1))[0] for j in range(width)]
    return _rescaled(tables, answers, np.array(alone))


def _rescaled(tables: Sequence[np.ndarray], answers: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """The weights, all scaled by the factor that makes the answers most probable."""
    together = [(table @ weights)[:, None] for table in tables]
    return weights * maximise(together, answers, _ALONE, np.ones(1))[0]


def maximise(tables: Sequence[np.ndarray], answers: Sequence[int], ridge: float, towards: np.ndarray) -> np.ndarray:
    """Weights >= 0 of the highest penalised mean log-likelihood.

    Args:
        tables: standardised scores, (N_i, J).
        answers: rows of the answers.
        ridge: the penalty is ridge / 2 * sum of (w - towards)^2.
        towards: (J,), where the ridge draws the weights.

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
        away = weights - towards
        value = np.mean(np.log(total) + most - utility[picked]) + 0.5 * ridge * away @ away
        gradient = ((scaled / total[owner]) @ flat - flat[picked].sum(0)) / len(tables) + ridge * away
        return float(value), gradient

    found = minimize(
        loss,
        np.maximum(towards, 0.1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * flat.shape[1],
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
    """Whether the mean reciprocal rank is above that of random orders, with 99.5% confidence (paired bootstrap).

    Args:
        rankings: scores (N,) and the row of the answer, by item.
        seed: of the resampling.
    """
    if not rankings:
        return False
    gains = np.array([reciprocal_rank(s, answer) - chance_reciprocal_rank(len(s)) for s, answer in rankings])
    draws = generator("judges", "chance", seed).integers(len(gains), size=(_SAMPLES, len(gains)))
    return float(np.quantile(gains[draws].mean(1), 0.005)) > 0


def _softmax(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    scaled = np.exp(values - values.max())[place]
    return scaled / scaled.sum()


def _log_sum_exp(values: np.ndarray) -> float:
    most = values.max()
    return float(most + np.log(np.exp(values - most).sum()))
