"""Scores of single queries, pairs and texts behind a task's score: what a paired test needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

#: mteb's main score -> trec_eval's name in mteb's per-query scores.
_PER_QUERY = {"ndcg_at_10": "ndcg_cut_10", "map_at_1000": "map_cut_1000", "recall_at_100": "recall_100"}


class ItemRecorder:
    """Collects the items of one evaluation of one task.

    Retrieval: the per-query scores mteb itself computed, read where it hands them to ``task_specific_scores``.
    Clustering: the V-measures of mteb's draws (or given sets) of documents, which are the same for every model. Other
    kinds: from the predictions mteb writes. Kinds of items: ``mean`` (the score is the mean of the items),
    ``spearman`` and ``ap`` (the score is that statistic of items and gold). With ``keep_rankings`` the rankings of a
    retrieval task are kept as well, by "split/subset".
    """

    def __init__(self, task: Any, folder: Path, keep_rankings: bool = False) -> None:
        self.task, self.folder = task, folder
        self.keep_rankings = keep_rankings
        self.rankings: dict[str, dict[str, dict[str, float]]] = {}
        self._per_query: dict[str, np.ndarray] = {}
        self._original: Any = getattr(task, "task_specific_scores", None)
        if self._original is not None:
            task.task_specific_scores = self._record

    @property
    def prediction_folder(self) -> Path | None:
        """Where mteb should leave its predictions; None for retrieval, whose rankings are large and not needed."""
        return None if self._original is not None else self.folder

    def _record(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str, **kwargs: Any
    ) -> dict[str, float]:
        wanted = _PER_QUERY.get(self.task.metadata.main_score)
        rows = [scores[q].get(wanted) for q in qrels if q in scores]
        if wanted and rows and all(r is not None for r in rows) and len(rows) == len(scores):
            self._per_query[f"{hf_split}/{hf_subset}"] = np.array(rows, dtype=np.float64)
        if self.keep_rankings:
            self.rankings[f"{hf_split}/{hf_subset}"] = {query: dict(ranked) for query, ranked in results.items()}
        return self._original(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset, **kwargs)

    def items(self, scores: Any) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(kind, items by "split/subset", gold by "split/subset"); empty where the task keeps none.

        ``scores``: what mteb returned for the task.
        """
        if self._original is not None:
            self.task.task_specific_scores = self._original
            return "mean", self._per_query, {}
        if self.task.metadata.type == "Clustering":
            return "mean", _v_measures(scores) if self.task.metadata.main_score == "v_measure" else {}, {}
        path = self.folder / self.task.prediction_file_name
        if not path.is_file():
            return "mean", {}, {}
        predictions = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        values: dict[str, np.ndarray] = {}
        gold: dict[str, np.ndarray] = {}
        kind = "mean"
        for subset, splits in predictions.items():
            if subset == "mteb_model_meta":
                continue
            for split, predicted in splits.items():
                data = self.task.dataset[split] if subset == "default" else self.task.dataset[subset][split]
                found = _from_predictions(self.task, predicted, data)
                if found is not None:
                    kind, values[f"{split}/{subset}"], gold[f"{split}/{subset}"] = found
        return kind, values, {} if kind == "mean" else gold


def _v_measures(scores: Any) -> dict[str, np.ndarray]:
    found = {}
    for split, rows in scores.items():
        for row in rows:
            draws = row.get("v_measures") or []
            if isinstance(draws, dict):  # by level of a hierarchy; the score is the mean over all of them
                draws = [value for level in draws.values() for value in level]
            if len(draws) > 1:
                found[f"{split}/{row['hf_subset']}"] = np.array(draws, dtype=np.float64)
    return found


#: What the items of a kind of task are, for people.
UNITS = {
    **dict.fromkeys(("Retrieval", "Reranking", "InstructionRetrieval", "InstructionReranking"), "queries"),
    **dict.fromkeys(("STS", "PairClassification"), "pairs"),
    "Classification": "texts",
    "Clustering": "draws",
}


def _from_predictions(task: Any, predicted: Any, data: Any) -> tuple[str, np.ndarray, np.ndarray] | None:
    task_type, main = task.metadata.type, task.metadata.main_score
    if task_type == "STS" and main == "cosine_spearman":
        return "spearman", np.array(predicted["cosine_scores"]), np.array(data["score"], dtype=np.float64)
    if task_type == "PairClassification" and main in {"max_ap", "cosine_ap", "similarity_ap"}:
        labels = np.array(data[task.label_column_name], dtype=np.float64)
        return "ap", np.array(predicted["cosine_scores"]), labels
    if task_type == "Classification" and main == "accuracy":
        truth = np.array(data[task.label_column_name])
        # Ten classifiers on ten draws of the training set: an item is how many of them got the text right.
        right = np.mean([np.asarray(run) == truth for run in predicted], axis=0)
        return "mean", right, right
    return None
