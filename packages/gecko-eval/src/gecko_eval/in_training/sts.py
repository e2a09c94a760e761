"""Semantic similarity of sentence pairs, for the training loop: Spearman's correlation at every Matryoshka dim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gecko_eval.data.sets import StsSet
from gecko_eval.in_training.retrieval import check_dims, whole_width
from gecko_eval.metrics import spearman

if TYPE_CHECKING:
    from gecko_core import Gecko


def evaluate_sts(model: Gecko, data: StsSet, dims: Sequence[int] | None = None) -> dict[int, float]:
    """Spearman's correlation of cosine and score (mteb's cosine_spearman), all dims from one encoding.

    Args:
        model: encodes the sentences under ``data.task``.
        data: the pairs.
        dims: prefixes to score; ``model.dims`` by default.

    Returns:
        dim -> correlation.

    Raises:
        ConfigError: a dim that the model does not have.
    """
    dims = check_dims(model.dim, model.dims if dims is None else dims)
    texts = list(dict.fromkeys([*data.sentences1, *data.sentences2]))
    position = {text: i for i, text in enumerate(texts)}
    vectors = model.encode(texts, task=data.task, **whole_width(model))
    first = vectors[[position[text] for text in data.sentences1]].astype(np.float64)
    second = vectors[[position[text] for text in data.sentences2]].astype(np.float64)
    return {dim: spearman(_cosine(first[:, :dim], second[:, :dim]), np.asarray(data.scores)) for dim in dims}


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(lengths > 0, lengths, 1)
