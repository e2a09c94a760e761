"""The training objective, one file per term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.loss.base import LossBatch, Needs, Term, TermConfig
    from gecko_train.loss.objective import Objective, ObjectiveConfig

__all__ = ["LossBatch", "Needs", "Objective", "ObjectiveConfig", "Term", "TermConfig"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LossBatch": "gecko_train.loss.base",
        "Needs": "gecko_train.loss.base",
        "Objective": "gecko_train.loss.objective",
        "ObjectiveConfig": "gecko_train.loss.objective",
        "Term": "gecko_train.loss.base",
        "TermConfig": "gecko_train.loss.base",
    },
)
