"""Semantic similarity of sentence pairs, for the training loop: Spearman's correlation at every Matryoshka dim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gecko_core.errors import DataError
from gecko_eval.data.beir import below_data_dir, find_file, read_jsonl
from gecko_eval.in_training.retrieval import check_dims
from gecko_eval.metrics import spearman

if TYPE_CHECKING:
    from gecko_core import Gecko


@dataclass(frozen=True)
class StsSet:
    """Sentence pairs with human scores; ``sentences1[i]`` and ``sentences2[i]`` got ``scores[i]``."""

    name: str
    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    task: str = "semantic similarity"

    def __post_init__(self) -> None:
        if not len(self.sentences1) == len(self.sentences2) == len(self.scores) or len(self.scores) < 2:
            counts = f"{len(self.sentences1)}, {len(self.sentences2)} and {len(self.scores)}"
            raise DataError(f"{self.name}: need at least two pairs with scores, found {counts} entries")


def load_sts(folder: str | Path, split: str = "test") -> StsSet:
    """Pairs of ``folder/<split>.jsonl`` (plain or .gz) with sentence1, sentence2 and score; also below GECKO_DATA_DIR.

    Raises:
        DataError: a missing file or key; the line names file and row.
    """
    folder = below_data_dir(folder)
    path = find_file(folder, f"{split}.jsonl")
    first, second, scores = [], [], []
    for where, row in read_jsonl(path):
        if not (
            isinstance(row.get("sentence1"), str)
            and isinstance(row.get("sentence2"), str)
            and isinstance(row.get("score"), (int, float))
            and math.isfinite(row["score"])
        ):
            raise DataError(f"{where}: expected sentence1, sentence2 and a number as score, found {', '.join(row)}")
        first.append(row["sentence1"])
        second.append(row["sentence2"])
        scores.append(float(row["score"]))
    return StsSet(folder.resolve().name, first, second, scores)


def evaluate_sts(model: Gecko, data: StsSet, dims: Sequence[int] | None = None) -> dict[int, float]:
    """dim -> Spearman's correlation of cosine and score, all dims from one encoding (mteb's cosine_spearman)."""
    dims = check_dims(model.dim, model.dims if dims is None else dims)
    texts = list(dict.fromkeys([*data.sentences1, *data.sentences2]))
    place = {text: i for i, text in enumerate(texts)}
    vectors = model.encode(texts, task=data.task)
    first = vectors[[place[text] for text in data.sentences1]].astype(np.float64)
    second = vectors[[place[text] for text in data.sentences2]].astype(np.float64)
    return {dim: spearman(_cosine(first[:, :dim], second[:, :dim]), np.asarray(data.scores)) for dim in dims}


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
