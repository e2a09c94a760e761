"""Is one system better than another? Paired bootstrap over queries, pairs or texts; whole result folders compared."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import write_text
from gecko_core.numbers import is_whole
from gecko_core.randomness import seeded
from gecko_eval.metrics import average_precision, spearman
from gecko_eval.mteb.items import UNITS
from gecko_eval.results import load_items


@dataclass(frozen=True)
class Comparison:
    """``a`` against ``b`` on the same queries.

    Attributes:
        mean_a: mean score of ``a``.
        mean_b: mean score of ``b``.
        difference: ``mean_a - mean_b``; above 0, ``a`` is better.
        low: lower bound of the 95% interval of the difference, see :func:`paired_bootstrap`; infinite of one query.
        high: its upper bound.
        p_value: two-sided.
        wins: the queries on which ``a`` scores higher.
        losses: those on which it scores lower.
        ties: those on which both score the same.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    ties: int

    @property
    def significant(self) -> bool:
        """Whether the 95% interval leaves out zero, with as many queries as a test of that level takes."""
        return (self.low > 0 or self.high < 0) and self.p_value < 0.05

    @property
    def known(self) -> bool:
        """Whether there is an interval: one query says nothing of others."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def paired_bootstrap(a: np.ndarray, b: np.ndarray, *, samples: int = 10_000, seed: int = 0) -> Comparison:
    """Compare two arrays of per-query scores, query by query.

    Queries are drawn with replacement ``samples`` times, the same draw for both systems (Efron and Tibshirani 1993;
    Sakai 2006 for retrieval). The percentiles of the means are moved away from the difference as far as Student's t
    is wider than the normal distribution (Hesterberg 2015, section 5.3, expands them for the same reason): of two
    queries percentiles alone hold the true difference every other time. The same seed gives the same interval.

    Args:
        a: scores of one system, shape (n,).
        b: scores of the other system on the same queries in the same order, shape (n,).
        samples: bootstrap replicates.
        seed: seeds the draws.

    Raises:
        ConfigError: ``samples`` is out of range, or ``seed`` no whole number from 0.
        DataError: the arrays are empty, differ in length, or hold something that is not finite.
    """
    _check_draws(samples, seed)
    a, b = (_array(scores) for scores in (a, b))
    if not all(scores.dtype.kind in "fiub" for scores in (a, b)):  # numpy would read texts, and cut complex numbers
        raise DataError(f"a paired comparison needs numbers, found {a.dtype} and {b.dtype}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise DataError(f"a paired comparison needs two 1-d arrays of one length, found {a.shape} and {b.shape}")
    if not np.isfinite([a, b]).all() or max(np.abs(a).max(), np.abs(b).max()) > _LARGEST:
        raise DataError("a paired comparison needs finite scores; one of the arrays holds NaN, infinity or nearly that")
    delta = a - b
    delta[np.abs(delta) <= _ROUNDING * np.maximum(np.abs(a), np.abs(b))] = 0  # sums in another order
    replicates = _bootstrap_means(delta, samples, seed)
    return _comparison(float(a.mean()), float(b.mean()), replicates, delta, len(delta))


def _array(scores: Any) -> np.ndarray:
    return np.asarray(scores.detach().cpu().double() if hasattr(scores, "detach") else scores)  # numpy has no bf16


def _comparison(score_a: float, score_b: float, replicates: np.ndarray, delta: np.ndarray, items: int) -> Comparison:
    # A few items drawn again and again are alike: below FEWEST, not even a test of signs, all of which agree, is
    # significant. Its p-value is the least that there can be.
    least = 2.0 ** (1 - items)
    # One more replicate than drawn: a p-value of exactly zero cannot be shown by a finite number of draws.
    at_or_below, at_or_above = (np.sum(replicates <= 0) + 1, np.sum(replicates >= 0) + 1)
    difference = score_a - score_b
    low, high = difference + interval_stretch(items) * (np.quantile(replicates, [0.025, 0.975]) - difference)
    if items == 1:
        low, high = -np.inf, np.inf
    return Comparison(
        mean_a=score_a,
        mean_b=score_b,
        difference=difference,
        low=float(low),
        high=float(high),
        p_value=float(min(1.0, max(least, 2.0 * min(at_or_below, at_or_above) / (len(replicates) + 1)))),
        wins=int(np.sum(delta > 0)),
        losses=int(np.sum(delta < 0)),
        ties=int(np.sum(delta == 0)),
    )


def t_quantile(freedom: float) -> float:
    """How many standard errors a 95% interval reaches to each side: the quantile .975 of Student's t.

    Args:
        freedom: degrees of freedom, above 0; 1.96 for very many.
    """
    return float(stdtrit(freedom, 0.975))


def interval_stretch(items: int) -> float:
    """How many times as wide as its percentiles the bootstrap's 95% interval of a mean over few items is to be.

    Args:
        items: how many; of one nothing can be said, and the answer is 1.
    """
    return math.sqrt(items / (items - 1)) * t_quantile(items - 1) / t_quantile(math.inf) if items > 1 else 1.0


#: Queries below which no difference is significant.
FEWEST = 6


def _check_draws(samples: int, seed: int) -> None:
    if not is_whole(samples, _FEWEST_SAMPLES, _MOST_SAMPLES):
        raise ConfigError(f"samples must be {_FEWEST_SAMPLES} to {_MOST_SAMPLES:,}, found {samples}")
    if not is_whole(seed, 0, _LARGEST_SEED):
        raise ConfigError(f"seed must be a whole number from 0 to {_LARGEST_SEED}, found {seed}")


def _bootstrap_means(delta: np.ndarray, samples: int, seed: int) -> np.ndarray:
    rng = seeded(seed)
    n = len(delta)
    means = np.empty(samples)
    step = max(1, 4_000_000 // n)  # 32 MB of indices at a time, however many queries there are
    for start in range(0, samples, step):
        stop = min(samples, start + step)
        means[start:stop] = delta[rng.integers(0, n, size=(stop - start, n))].mean(axis=1)
    return means


_FEWEST_SAMPLES, _MOST_SAMPLES = 100, 10_000_000  # of fewer, two and a half percent are no two replicates
_LARGEST, _LARGEST_SEED = 1e300, 2**63 - 1
_ROUNDING = 1e-13  # of two scores, so near to each other they are one that was added up in two ways
_STATISTICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"spearman": spearman, "ap": average_precision}


def compare_task(
    kind: str,
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    gold: Mapping[str, np.ndarray],
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> Comparison | None:
    """Compare the items of one task, subset by subset; the task's score is the mean over its subsets.

    Args:
        kind: ``mean``, ``spearman`` or ``ap``: how items make the score (``gecko_eval.mteb.items``).
        a: items of one system by subset.
        b: items of the other system by subset.
        gold: what ``spearman`` and ``ap`` compare the items with, by subset.
        samples: replicates; a tenth of them (100 at least) for ``spearman`` and ``ap``, whose every replicate sorts
            all pairs.
        seed: seeds the draws.

    Returns:
        None where the two do not cover the same items. Wins and losses are counted over items for ``mean`` and over
        subsets otherwise.
    """
    subsets = sorted(a)
    if not subsets or subsets != sorted(b) or any(a[s].shape != b[s].shape or not len(a[s]) for s in subsets):
        return None
    if kind != "mean" and any(s not in gold or gold[s].shape != a[s].shape for s in subsets):
        return None
    if kind == "mean":
        means = [_bootstrap_means(a[s] - b[s], samples, seed + i) for i, s in enumerate(subsets)]
        scores = [(a[s].mean(), b[s].mean()) for s in subsets]
        delta = np.concatenate([a[s] - b[s] for s in subsets])
    else:
        statistic = _STATISTICS[kind]
        means = [
            _bootstrap_statistic(statistic, a[s], b[s], gold[s], max(_FEWEST_SAMPLES, samples // 10), seed + i)
            for i, s in enumerate(subsets)
        ]
        scores = [(statistic(a[s], gold[s]), statistic(b[s], gold[s])) for s in subsets]
        delta = np.array([x - y for x, y in scores])
    score_a, score_b = (float(np.mean(column)) for column in zip(*scores, strict=True))
    return _comparison(score_a, score_b, np.mean(means, axis=0), delta, sum(len(a[s]) for s in subsets))


def _bootstrap_statistic(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    a: np.ndarray,
    b: np.ndarray,
    gold: np.ndarray,
    samples: int,
    seed: int,
) -> np.ndarray:
    rng = seeded(seed)
    out = np.empty(samples)
    for i in range(samples):
        rows = rng.integers(0, len(gold), len(gold))
        out[i] = statistic(a[rows], gold[rows]) - statistic(b[rows], gold[rows])
    # A draw of one label only has no correlation and no precision; it says nothing about the difference.
    # Rounded, because a difference of zero must count as one whatever the last bit of either score is.
    return np.nan_to_num(out, nan=0.0).round(12)


class TaskComparison(NamedTuple):
    """One task of two results folders.

    Attributes:
        task: the task's name.
        comparison: the interval; None where there is none, and ``note`` says why.
        score_a: main score of the first side, as mteb has it.
        score_b: main score of the second side.
        note: what the interval is over, or why there is none.
        dims: the dim of each side, "0" for a model without dims.
        same_data: whether both sides were run on the same content.
        p_holm: the p-value after Holm's correction for the number of tasks with an interval.
    """

    task: str
    comparison: Comparison | None
    score_a: float
    score_b: float
    note: str
    dims: tuple[str, str] = ("0", "0")
    same_data: bool = True
    p_holm: float | None = None

    @property
    def verdict(self) -> str:
        """Better, worse (both significant) or not significant, seen from a; the note where there is no interval."""
        if self.comparison is None:
            return self.note
        if not self.comparison.significant:
            return "not significant"
        return "better" if self.comparison.difference > 0 else "worse"


def compare_results(
    a: dict[str, Any],
    b: dict[str, Any],
    dim: int | tuple[int | None, int | None] | None = None,
    *,
    samples: int = 10_000,
) -> list[TaskComparison]:
    """Compare two results folders on the tasks that both have.

    Args:
        a: one side, from ``load_results``.
        b: the other side.
        dim: the dim of both sides, or of each; each model's largest by default.
        samples: bootstrap replicates.

    Returns:
        One row per common task. ``note`` says what the interval is over (300 queries, 10 draws, ...).

    Raises:
        DataError: the two have no task in common, or one of them none at its dim.
        ConfigError: ``samples`` is out of range.
    """
    _check_draws(samples, 0)
    rows = []
    wanted_a, wanted_b = dim if isinstance(dim, tuple) else (dim, dim)
    for results, wanted in ((a, wanted_a), (b, wanted_b)):
        if wanted is not None and all(_dim_of(task, wanted) is None for task in results["tasks"].values()):
            raise DataError(f"{results['folder']}: no task is scored at {wanted} dims")
    for task in sorted(a["tasks"].keys() & b["tasks"].keys()):
        dim_a, dim_b = _dim_of(a["tasks"][task], wanted_a), _dim_of(b["tasks"][task], wanted_b)
        if dim_a is not None and dim_b is not None:
            rows.append(_compare_one(task, (a, dim_a), (b, dim_b), samples))
    if not rows:
        asked = dict.fromkeys(str(d) for d in (wanted_a, wanted_b) if d is not None)
        where = f" at {' and '.join(asked)} dims" if asked else ""
        raise DataError(f"{a['folder']} and {b['folder']} have no scored task in common{where}")
    return _with_holm(rows)


def _compare_one(task: str, side_a: tuple[Any, str], side_b: tuple[Any, str], samples: int) -> TaskComparison:
    (a, dim_a), (b, dim_b) = side_a, side_b
    of_a, of_b = a["tasks"][task], b["tasks"][task]
    row = TaskComparison(
        task, None, of_a["scores"][dim_a]["main"], of_b["scores"][dim_b]["main"], "", dims=(dim_a, dim_b)
    )
    if of_a.get("data") != of_b.get("data"):
        return row._replace(note="no interval: run on different data", same_data=False)
    try:
        items_a, items_b = load_items(a, task), load_items(b, task)
    except DataError:
        return row._replace(note="no interval: the kept items are missing or damaged; run it again with --overwrite")
    under_a, gold = _under(items_a, dim_a), _under(items_a, "gold")
    comparison = compare_task(of_a.get("items", "mean"), under_a, _under(items_b, dim_b), gold, samples=samples)
    return row._replace(comparison=comparison, note=_note(of_a["type"], comparison, under_a))


def _with_holm(rows: list[TaskComparison]) -> list[TaskComparison]:
    """With p-values that hold for all tasks at once (Holm 1979): of 44 tasks, two are "significant" by chance."""
    tested = sorted((row.comparison.p_value, i) for i, row in enumerate(rows) if row.comparison is not None)
    out, largest = list(rows), 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        out[i] = rows[i]._replace(p_holm=largest)
    return out


def _note(kind: str, comparison: Comparison | None, items: Mapping[str, np.ndarray]) -> str:
    if comparison is None:
        why = "the two cover different items" if items else f"{kind} keeps no items here"
        return f"no interval: {why}"
    return f"{sum(map(len, items.values()))} {UNITS.get(kind, 'items')}"


def _dim_of(task: Mapping[str, Any], dim: int | None) -> str | None:
    scores: Sequence[str] = list(task.get("scores", {}))
    if not scores:
        return None
    # A model without dims (BM25) takes part at any.
    if dim is not None:
        return next((d for d in (str(dim), "0") if d in scores), None)
    return max(scores, key=int)


def _under(arrays: Mapping[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    return {key.split("/", 1)[1]: value for key, value in arrays.items() if key.split("/", 1)[0] == head}


COLUMNS = (
    *("task", "score_a", "score_b", "dim_a", "dim_b", "difference", "low", "high", "p", "p_holm"),
    *("wins", "losses", "ties", "over", "verdict"),
)


def as_record(row: TaskComparison) -> dict[str, Any]:
    """The row as plain values under the names in ``COLUMNS``; scores as mteb has them, not times 100."""
    scores = (row.task, row.score_a, row.score_b, *row.dims, row.score_a - row.score_b)
    tested: tuple[Any, ...] = ("",) * 8
    if row.comparison is not None:
        p_value = row.comparison.p_value
        low, high = (row.comparison.low, row.comparison.high) if row.comparison.known else ("", "")
        counts = (row.comparison.wins, row.comparison.losses, row.comparison.ties)
        tested = (low, high, p_value, row.p_holm, *counts, row.note)
    return dict(zip(COLUMNS, (*scores, *tested, row.verdict), strict=True))


def write_comparison(rows: Sequence[TaskComparison], path: Path) -> None:
    """Write the rows as a CSV of ``COLUMNS``.

    Raises:
        DataError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(as_record, rows))
    write_text(path, text.getvalue())
