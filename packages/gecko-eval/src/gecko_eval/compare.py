"""Is one system better than another? Paired bootstrap over queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gecko_core.errors import DataError


@dataclass(frozen=True)
class Comparison:
    """``a`` against ``b`` on the same queries. ``difference`` is ``mean_a - mean_b``: above 0, ``a`` is better.

    ``low`` and ``high`` bound the 95% percentile interval of the difference; ``p_value`` is two-sided. ``wins`` counts
    the queries on which ``a`` scores higher, ``losses`` those on which it scores lower.
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
        """Whether the 95% interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(a: np.ndarray, b: np.ndarray, *, samples: int = 10_000, seed: int = 0) -> Comparison:
    """Compares two arrays of per-query scores, query by query.

    Queries are drawn with replacement ``samples`` times, the same draw for both systems (Efron and Tibshirani 1993;
    Sakai 2006 for retrieval). The same seed gives the same interval.

    Args:
        a, b: scores of the same queries in the same order, shape (n,).
        samples: bootstrap replicates.
        seed: of the draws.

    Raises:
        DataError: the arrays are empty, differ in length, or hold something that is not finite.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise DataError(f"a paired comparison needs two 1-d arrays of one length, found {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("a paired comparison needs finite scores; one of the arrays holds NaN or infinity")
    if samples < 1:
        raise DataError(f"samples must be at least 1, found {samples}")
    delta = a - b
    means = _bootstrap_means(delta, samples, seed)
    # One more replicate than drawn: a p-value of exactly zero cannot be shown by a finite number of draws.
    at_or_below, at_or_above = (np.sum(means <= 0) + 1, np.sum(means >= 0) + 1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Comparison(
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(delta.mean()),
        low=float(low),
        high=float(high),
        p_value=float(min(1.0, 2.0 * min(at_or_below, at_or_above) / (samples + 1))),
        wins=int(np.sum(delta > 0)),
        losses=int(np.sum(delta < 0)),
        ties=int(np.sum(delta == 0)),
    )


def _bootstrap_means(delta: np.ndarray, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = len(delta)
    means = np.empty(samples)
    step = max(1, 4_000_000 // n)  # 32 MB of indices at a time, however many queries there are
    for start in range(0, samples, step):
        stop = min(samples, start + step)
        means[start:stop] = delta[rng.integers(0, n, size=(stop - start, n))].mean(axis=1)
    return means
