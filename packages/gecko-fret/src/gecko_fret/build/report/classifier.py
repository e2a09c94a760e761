"""A classifier that tells two sets of queries apart, and how well it does on queries that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from gecko_core.errors import ConfigError, DataError
from gecko_core.randomness import seed_of
from gecko_core.text_words import text_words

#: Distinct groups of queries that each side must have.
FEWEST_GROUPS = 50
#: Queries that have this share of their distinct words in common are near duplicates (Jaccard).
NEAR = 0.6
FOLDS = 5
_INNER_FOLDS = 3
_STRENGTHS = (1e-3, 1e-2, 1e-1)
Split = tuple[np.ndarray, np.ndarray]
#: What is measured of a query's surface, in the order of the columns of :func:`surface`.
SURFACE = (
    "words",
    "letters per word",
    "share of distinct words",
    "share of capitals among letters",
    "share of digits",
    "share of punctuation",
    "begins with a capital",
    "ends with ?",
    "ends with .",
)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two sets.

    Attributes:
        texts: its queries.
        vectors: (n, D) embeddings.
        owners: what each was made from, None where that is unknown; queries of one owner stay in one fold.
    """

    texts: Sequence[str]
    vectors: np.ndarray
    owners: Sequence[str | None]


def surface(texts: Sequence[str]) -> np.ndarray:
    """(n, 9) float64: length, lexical diversity and form of each query, see ``SURFACE``."""
    return np.array([_surface(text) for text in texts], dtype=np.float64).reshape(len(texts), len(SURFACE))


def _surface(text: str) -> list[float]:
    words, line = text_words(text), text.strip()
    letters = [character for character in line if character.isalpha()]
    marks = sum(not character.isalnum() and not character.isspace() for character in line)
    return [
        len(words),
        sum(map(len, words)) / max(len(words), 1),
        len(set(words)) / max(len(words), 1),
        sum(character.isupper() for character in letters) / max(len(letters), 1),
        sum(character.isdigit() for character in line) / max(len(line), 1),
        marks / max(len(line), 1),
        float(line[:1].isupper()),
        float(line.endswith(("?", "？", "؟"))),
        float(line.endswith((".", "。"))),
    ]


def groups(texts: Sequence[str], owners: Sequence[str | None]) -> np.ndarray:
    """(n,) number of each query's group: equal and nearly equal queries, and those of one owner, share one.

    Args:
        texts: the queries; two are near where they have 60% of their distinct words in common, and chains of such
            pairs are one group.
        owners: what each was made from; None: unknown.
    """
    sets = [set(text_words(text)) or {text} for text in texts]
    columns: dict[str, int] = {}
    places = [(row, columns.setdefault(word, len(columns))) for row, words in enumerate(sets) for word in sorted(words)]
    rows, used = np.array(places, dtype=np.int64).reshape(-1, 2).T
    has = csr_matrix((np.ones(len(rows)), (rows, used)), shape=(len(sets), max(len(columns), 1)))
    sizes = np.array([len(words) for words in sets], dtype=np.float64)
    shared = (has @ has.T).tocoo()
    either = sizes[shared.row] + sizes[shared.col] - shared.data
    near = shared.data >= NEAR * either
    first: dict[str, int] = {}
    owned = [(place, first.setdefault(owner, place)) for place, owner in enumerate(owners) if owner is not None]
    links = np.concatenate([np.stack([shared.row[near], shared.col[near]], 1), np.array(owned).reshape(-1, 2)])
    graph = csr_matrix((np.ones(len(links)), links.astype(np.int64).T), shape=(len(sets), len(sets)))
    return np.asarray(connected_components(graph, directed=False)[1])


def tell_apart(one: Side, other: Side, *name: object) -> dict[str, np.ndarray]:
    """How well logistic regression tells the sides apart: the area under the ROC curve on each held-out fold.

    Features are standardised; the strength of the penalty is chosen inside each training fold. Queries of one group
    (:func:`groups`) are never on both sides of a fold, so that repeated subjects and copies do not count as style.

    Args:
        one: the positive side.
        other: the other; as many queries as ``one`` for balanced classes.
        name: decides the folds.

    Returns:
        Area per fold, by features: ``embeddings and surface``, ``embeddings``, ``surface``.

    Raises:
        ConfigError: scikit-learn is not installed.
        DataError: the queries of a side are so alike that they cannot be spread over folds.
    """
    grouped_folds()
    labels = np.repeat([1, 0], [len(one.texts), len(other.texts)])
    texts, owners = [*one.texts, *other.texts], [*one.owners, *other.owners]
    group = groups(texts, owners)
    vectors, form = np.concatenate([one.vectors, other.vectors]).astype(np.float64), surface(texts)
    features = {"embeddings and surface": np.hstack([vectors, form]), "embeddings": vectors, "surface": form}
    state = seed_of(*name) % 2**32
    splits = _splits(labels, group, FOLDS, shuffle=True, random_state=state)
    if len(splits) < FOLDS:
        raise DataError(
            f"the queries are too alike to be told apart: they fall into {len(set(group.tolist()))} groups of near "
            f"duplicates, and not each of {FOLDS} folds gets some of both sides; give more diverse ones"
        )
    inner = [_splits(labels[train], group[train], _INNER_FOLDS) for train, _ in splits]
    work = list(zip(splits, inner, strict=True))
    return {
        title: np.array([_fold_area(matrix, labels, *split, within) for split, within in work])
        for title, matrix in features.items()
    }


def _fold_area(
    matrix: np.ndarray, labels: np.ndarray, train: np.ndarray, held: np.ndarray, inner: list[Split]
) -> float:
    """Area on the held-out queries of a model whose penalty was chosen on folds inside of the others."""
    rows, sides = matrix[train], labels[train]
    found = [_areas(rows, sides, *split, _STRENGTHS) for split in inner]
    best = _STRENGTHS[int(np.argmax(np.mean(found, axis=0)))] if found else _STRENGTHS[0]
    return _areas(matrix, labels, train, held, [best])[0]


def _areas(
    matrix: np.ndarray, labels: np.ndarray, fitted: np.ndarray, scored: np.ndarray, strengths: Sequence[float]
) -> list[float]:
    """Area on the scored rows by strength of the penalty (the smaller, the stronger)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    middle, spread = matrix[fitted].mean(0), matrix[fitted].std(0)
    scaled = (matrix - middle) / np.where(spread > 1e-9, spread, 1.0)
    areas = []
    for strength in strengths:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
        scores = model.fit(scaled[fitted], labels[fitted]).decision_function(scaled[scored])
        areas.append(float(roc_auc_score(labels[scored], scores)))
    return areas


def _splits(labels: np.ndarray, group: np.ndarray, count: int, **options: Any) -> list[Split]:
    """Places to fit and to score of each fold, of folds that have both sides in either."""
    if len(set(group.tolist())) < count:
        return []
    splits = grouped_folds()(count, **options).split(labels, labels, group)
    return [split for split in splits if all(len(set(labels[places].tolist())) == 2 for places in split)]


def grouped_folds() -> Any:
    """scikit-learn's folds that keep groups together and classes in proportion.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.model_selection import StratifiedGroupKFold
    except ImportError:
        raise ConfigError("report --real needs scikit-learn; pip install 'gecko-fret[real]'") from None
    return StratifiedGroupKFold
