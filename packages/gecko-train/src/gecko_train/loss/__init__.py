"""The training objective, one file per term."""

from __future__ import annotations

from gecko_train.loss.base import Block, LossBatch, Needs, Term, TermConfig
from gecko_train.loss.objective import Objective, ObjectiveConfig

__all__ = ["Block", "LossBatch", "Needs", "Objective", "ObjectiveConfig", "Term", "TermConfig"]
