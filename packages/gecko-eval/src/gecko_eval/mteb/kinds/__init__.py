"""The kinds of judged data that a folder may hold: one file each, listed here."""

from __future__ import annotations

from gecko_eval.mteb.kinds.base import Items, Kind
from gecko_eval.mteb.kinds.classification import Classification
from gecko_eval.mteb.kinds.clustering import Clustering
from gecko_eval.mteb.kinds.pair_classification import PairClassification
from gecko_eval.mteb.kinds.retrieval import Retrieval, retrieval_task
from gecko_eval.mteb.kinds.sts import Sts

__all__ = ["KINDS", "Items", "Kind", "kind_named", "retrieval_task"]

#: The first that recognises a folder gets it.
KINDS: tuple[Kind, ...] = (Retrieval(), Sts(), PairClassification(), Classification(), Clustering())


def kind_named(name: str) -> Kind | None:
    """The kind with mteb's task type ``name``; None for types that only mteb's own tasks have."""
    return next((kind for kind in KINDS if kind.name == name), None)
