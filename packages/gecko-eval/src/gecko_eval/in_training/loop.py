"""Evaluation inside a training loop: small sets, one encoding for all dims, one flat dict of numbers for the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from gecko_core.errors import ConfigError
from gecko_core.randomness import seeded
from gecko_eval.data.sets import RetrievalSet, StsSet
from gecko_eval.in_training.retrieval import evaluate_retrieval
from gecko_eval.in_training.sts import evaluate_sts

if TYPE_CHECKING:
    from gecko_core import Gecko


def subsample(data: RetrievalSet, max_queries: int = 200, max_documents: int = 2000, seed: int = 0) -> RetrievalSet:
    """A smaller set for the loop: some queries, all documents judged for them, and random other documents.

    Scores are higher than on the whole set (fewer distractors) and compare only with each other. The same seed gives
    the same subset; judged documents stay even where they alone exceed ``max_documents``.
    """
    rng = seeded(seed)
    chosen = sorted(rng.permutation(len(data.query_ids))[:max_queries])
    query_ids = [data.query_ids[i] for i in chosen]
    judged = {doc for query in query_ids for doc in data.qrels[query]}
    others = [i for i, doc in enumerate(data.doc_ids) if doc not in judged]
    fill = {others[i] for i in rng.permutation(len(others))[: max(0, max_documents - len(judged))]}
    kept = [i for i, doc in enumerate(data.doc_ids) if doc in judged or i in fill]
    return replace(
        data,
        query_ids=query_ids,
        queries=[data.queries[i] for i in chosen],
        doc_ids=[data.doc_ids[i] for i in kept],
        docs=[data.docs[i] for i in kept],
        titles=None if data.titles is None else [data.titles[i] for i in kept],
        qrels={query: data.qrels[query] for query in query_ids},
    )


def best_step(scores: Mapping[int, float | None]) -> int | None:
    """The step with the highest score, the earliest of equals; None where no step has a score.

    Args:
        scores: step -> score, in the order of the steps; None for a step that was not evaluated.
    """
    known = {step: score for step, score in scores.items() if score is not None and not math.isnan(score)}
    return max(known, key=known.__getitem__) if known else None


@dataclass
class LoopEvaluation:
    """Call it with the model and the step; it evaluates every ``every`` steps and remembers the best.

        watch = LoopEvaluation([subsample(load_beir("scifact"))], every=100)
        numbers = watch(model, step)      # {} between evaluations

    Keys of the numbers are ``eval/<set>/<metric>@<dim>``; ``best`` is the highest mean over sets of nDCG@10 or
    Spearman at the first dim, which is under ``eval/mean@<dim>``. A correlation that is not defined, as all pairs are
    equally similar, counts as none: 0. The model's training mode is restored afterwards.

    Attributes:
        sets: retrieval sets and sentence pairs.
        every: steps between two evaluations.
        dims: dims to score; the model's by default.
        scores: step -> the mean that ``best`` follows.
        history: the numbers of every evaluation, and its step.
    """

    sets: Sequence[RetrievalSet | StsSet]
    every: int = 100
    dims: Sequence[int] | None = None
    scores: dict[int, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every must be at least 1 step, found {self.every}")
        if not self.sets or len({s.name for s in self.sets}) != len(self.sets):
            raise ConfigError("the loop's evaluation needs at least one set, and no two of one name")

    @property
    def best_step(self) -> int | None:
        """The step with the highest mean so far; None before the first evaluation."""
        return best_step(self.scores)

    @property
    def best(self) -> float:
        """The highest mean so far; -inf before the first evaluation."""
        step = self.best_step
        return float("-inf") if step is None else self.scores[step]

    def __call__(self, model: Gecko, step: int, *, force: bool = False) -> Mapping[str, float]:
        """Numbers of this step, empty unless ``step`` is a multiple of ``every`` (or ``force``)."""
        if not force and step % self.every:
            return {}
        training = bool(getattr(model, "training", False))
        if training:
            model.eval()
        try:
            numbers = self._evaluate(model)
        finally:
            if training:
                model.train()
        self.scores[step] = next(value for key, value in numbers.items() if key.startswith("eval/mean@"))
        self.history.append({"step": float(step), **numbers})
        return numbers

    def _evaluate(self, model: Gecko) -> dict[str, float]:
        dims = tuple(self.dims or model.dims)
        numbers: dict[str, float] = {}
        leading: dict[int, list[float]] = {dim: [] for dim in dims}
        for data in self.sets:
            if isinstance(data, StsSet):
                for dim, value in evaluate_sts(model, data, dims).items():
                    numbers[f"eval/{data.name}/spearman@{dim}"] = value
                    leading[dim].append(0.0 if math.isnan(value) else value)
                continue
            for dim, scores in evaluate_retrieval(model, data, dims).items():
                for metric in ("ndcg_at_10", "mrr_at_10", "recall_at_100"):
                    numbers[f"eval/{data.name}/{metric}@{dim}"] = getattr(scores, metric)
                leading[dim].append(scores.ndcg_at_10)
        return {**{f"eval/mean@{dim}": float(np.mean(values)) for dim, values in leading.items()}, **numbers}
