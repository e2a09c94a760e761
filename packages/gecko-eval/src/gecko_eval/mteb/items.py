"""What is kept behind a task's score: values of single queries, pairs and texts, and rankings as TREC run files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import whole_file
from gecko_eval.mteb.kinds import KINDS, kind_named
from gecko_eval.results import make_folder, safe_name

#: query id -> document id -> score, by "split/subset".
Rankings = Mapping[str, Mapping[str, Mapping[str, float]]]

#: (statistic, items by "split/subset", gold by "split/subset").
KeptItems = tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]

#: What the items of a task type are called.
UNITS = {
    **dict.fromkeys(("Reranking", "InstructionRetrieval", "InstructionReranking"), "queries"),
    **{kind.name: kind.unit for kind in KINDS},
}

#: mteb's main score -> trec_eval's name in mteb's per-query scores.
_PER_QUERY = {"ndcg_at_10": "ndcg_cut_10", "map_at_1000": "map_cut_1000", "recall_at_100": "recall_100"}


class ItemRecorder:
    """Collects the items of one evaluation of one task.

    Retrieval: the per-query scores that mteb computed, read where it passes them to ``task_specific_scores``.
    Other kinds: from the scores (``Kind.scored_items``) or the predictions (``Kind.items``) that mteb returns.
    Statistics of items: ``mean`` (the score is the mean of the items), ``spearman`` and ``ap`` (the score is that
    statistic of items and gold).

    Args:
        task: mteb's task.
        folder: where mteb writes predictions.
        keep_rankings: whether the rankings of a retrieval task are kept as well, by "split/subset".
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
        rows = [scores[query].get(wanted) for query in qrels if query in scores]
        if wanted and rows and all(row is not None for row in rows) and len(rows) == len(scores):
            self._per_query[f"{hf_split}/{hf_subset}"] = np.array(rows, dtype=np.float64)
        if self.keep_rankings:
            self.rankings[f"{hf_split}/{hf_subset}"] = {query: dict(ranked) for query, ranked in results.items()}
        return self._original(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset, **kwargs)

    def items(self, scores: Any) -> KeptItems:
        """The items; empty where the task keeps none.

        Args:
            scores: what mteb returned for the task.
        """
        if self._original is not None:
            self.task.task_specific_scores = self._original
            return "mean", self._per_query, {}
        kind = kind_named(self.task.metadata.type)
        scored = kind.scored_items(self.task, scores) if kind is not None else None
        return ("mean", scored, {}) if scored is not None else self._from_predictions()

    def _from_predictions(self) -> KeptItems:
        values: dict[str, np.ndarray] = {}
        gold: dict[str, np.ndarray] = {}
        statistic = "mean"
        path, kind = self.folder / self.task.prediction_file_name, kind_named(self.task.metadata.type)
        if kind is None or not path.is_file():
            return statistic, values, gold
        predictions = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        predictions.pop("mteb_model_meta", None)
        for subset, splits in predictions.items():
            for split, predicted in splits.items():
                data = self.task.dataset[split] if subset == "default" else self.task.dataset[subset][split]
                items = kind.items(self.task, predicted, data)
                if items is not None:
                    statistic, values[f"{split}/{subset}"], gold[f"{split}/{subset}"] = items
        return statistic, values, {} if statistic == "mean" else gold


def save_rankings(out: Path, task: str, dim: int, rankings: Rankings, tag: str) -> list[str]:
    """Write ``out/rankings/TASK@DIM.trec``, whole or not at all; a task of several subsets gets a file for each.

    One line per document, best first: query id, Q0, document id, rank from 1, score, ``tag``. trec_eval, pytrec_eval,
    ranx and fusion scripts read it.

    Args:
        out: the results folder.
        task: the task's name.
        dim: the dim of the embeddings; 0 for a model without dims.
        rankings: query id -> document id -> score, by "split/subset".
        tag: the name of the run.

    Returns:
        The files' names.

    Raises:
        DataError: an id holds white space, which the format has no place for.
    """
    make_folder(out / "rankings")
    name = safe_name(task) + (f"@{dim}" if dim else "")
    names = []
    for where, ranking in rankings.items():
        subset = f".{safe_name(where.split('/', 1)[1])}" if len(rankings) > 1 else ""
        names.append(f"{name}{subset}.trec")
        with whole_file(out / "rankings" / names[-1]) as file:
            for query, documents in ranking.items():
                file.write(_trec_lines(task, query, documents, "-".join(tag.split())).encode())
    return names


def check_rankable(task: Any) -> None:
    """Check before anything is encoded that a task's ids can stand in the files of ``save_rankings``.

    Args:
        task: mteb's, with its data loaded.

    Raises:
        DataError: an id holds white space.
    """
    for split in (split for subset in task.dataset.values() for split in subset.values()):
        for table in ("queries", "corpus"):
            _check_unspaced(task.metadata.name, split[table]["id"] if table in split else ())


def has_rankings(out: Path, score: Mapping[str, Any]) -> bool:
    """Whether the files that ``save_rankings`` named for a score exist."""
    names = score.get("rankings", [])
    return bool(names) and all((out / "rankings" / str(name)).is_file() for name in names)


def _trec_lines(task: str, query: str, documents: Mapping[str, float], tag: str) -> str:
    _check_unspaced(task, [query, *documents])
    # trec_eval breaks ties by document id, last first; so does search here.
    best = sorted(documents.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return "".join(f"{query} Q0 {doc} {rank} {score:.9g} {tag}\n" for rank, (doc, score) in enumerate(best, 1))


def _check_unspaced(task: str, ids: Iterable[str]) -> None:
    spaced = next((text for text in ids if not text or text.split() != [text]), None)
    if spaced is not None:
        raise DataError(f"{task}: the id {spaced!r} holds white space and cannot stand in a TREC run file")
