"""How far written queries are from real ones: how well a classifier tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gecko_core.io import read_json
from gecko_core.randomness import generator
from gecko_core.text_words import text_words
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.queries import USERS, WRITTEN, filtered_queries
from gecko_fret.steps.examples import examples_file

#: Fewest queries of either side; below, the number would say nothing.
FEWEST = 20
_MOST = 500
_FEATURES = 4096
_FOLDS = 5
_RIDGE = 1.0


def style(data: ReportData) -> Iterable[ReportSection]:
    """Written against real queries, where the build has real ones: those of the log and the examples.

    Real ones that the user gives are compared more closely, see ``apart``.
    """
    if data.real is not None:
        return
    written, real = _queries(data)
    if min(len(written), len(real)) < FEWEST:
        return
    value = told_apart(written, real, data.manifest["config"]["seed"])
    rows = [("AUC", f"{value:.2f}"), ("written queries", len(written)), ("real queries", len(real))]
    note = (
        "How well a classifier on words and letters tells written queries from real ones, cross-validated: 0.5 not at "
        "all, 1.0 always."
    )
    yield ReportSection("Written and real queries", note, ("what", "value"), rows)


def told_apart(written: Sequence[str], real: Sequence[str], seed: int) -> float:
    """Area under the ROC curve of a ridge classifier, from predictions for held-out queries (5 folds).

    Features are the counts of words, of pairs of words and of runs of three characters, hashed, on a logarithmic scale
    and of unit length.

    Args:
        written: the queries of one side; of more than 500 as many are drawn.
        real: those of the other.
        seed: decides the draw and the folds.
    """
    sides = [_drawn(texts, seed, name) for texts, name in ((written, "written"), (real, "real"))]
    features = np.stack([_features(text) for side in sides for text in side])
    labels = np.repeat([1.0, -1.0], [len(side) for side in sides])
    folds = np.concatenate(
        [_folds(len(side), seed, name) for side, name in zip(sides, ("written", "real"), strict=True)]
    )
    scores = np.zeros(len(labels))
    for fold in range(_FOLDS):
        held = folds == fold
        scores[held] = _ridge(features[~held], labels[~held], features[held])
    return area(scores[labels > 0], scores[labels < 0])


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Share of pairs in which the positive scores higher, equal ones counted half: the area under the ROC curve."""
    above = (positive[:, None] > negative[None]).sum() + 0.5 * (positive[:, None] == negative[None]).sum()
    return float(above / (len(positive) * len(negative)))


def _queries(data: ReportData) -> tuple[list[str], list[str]]:
    settings = data.manifest["config"]["generate"]
    queries = filtered_queries(data)
    written = [query.text for query in queries if query.source == WRITTEN]
    real = [query.text for query in queries if query.source == USERS]
    if settings.get("examples"):
        pairs = read_json(examples_file(data.workspace.out), cure="run the build again")["pairs"]
        real += [entry["query"] for entry in pairs]
    return written, list(dict.fromkeys(real))


def _drawn(texts: Sequence[str], seed: int, name: str) -> list[str]:
    return [texts[place] for place in generator("style", seed, name).permutation(len(texts))[:_MOST]]


def _folds(count: int, seed: int, name: str) -> np.ndarray:
    return generator("style-folds", seed, name).permutation(np.arange(count) % _FOLDS)


def _features(text: str) -> np.ndarray:
    """(4096,) unit length."""
    words = text_words(text)
    line = f" {text} "
    grams = [line[i : i + 3] for i in range(len(line) - 2)]
    names = [*words, *(" ".join(pair) for pair in pairwise(words)), *(f"\x1f{g}" for g in grams)]
    row = np.zeros(_FEATURES)
    for name in names:
        row[int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little") % _FEATURES] += 1
    row = np.log1p(row)
    return row / max(float(np.linalg.norm(row)), 1e-12)


def _ridge(features: np.ndarray, labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Scores of held-out rows by ridge regression on labels of both sides with equal weight, in its dual form."""
    weights = np.where(labels > 0, 1 / (labels > 0).sum(), 1 / (labels < 0).sum()) * len(labels) / 2
    root = np.sqrt(weights)
    kernel = (features * root[:, None]) @ (features * root[:, None]).T
    dual = np.linalg.solve(kernel + _RIDGE * np.eye(len(labels)), labels * root)
    return held @ (features.T @ (dual * root))
