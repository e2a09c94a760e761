"""Whole runs: the journey, ablations, model soups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.run.ablate import run_ablation
    from gecko_train.run.folder import RunFolder
    from gecko_train.run.journey import STEPS, Journey, run_mntp, run_recipe, run_stage
    from gecko_train.run.stage import StageResult, train_stage
    from gecko_train.run.steps.base import Step

__all__ = [
    "STEPS",
    "Journey",
    "RunFolder",
    "StageResult",
    "Step",
    "run_ablation",
    "run_mntp",
    "run_recipe",
    "run_stage",
    "train_stage",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Journey": "gecko_train.run.journey",
        "RunFolder": "gecko_train.run.folder",
        "STEPS": "gecko_train.run.journey",
        "StageResult": "gecko_train.run.stage",
        "Step": "gecko_train.run.steps.base",
        "run_ablation": "gecko_train.run.ablate",
        "run_mntp": "gecko_train.run.journey",
        "run_recipe": "gecko_train.run.journey",
        "run_stage": "gecko_train.run.journey",
        "train_stage": "gecko_train.run.stage",
    },
)
