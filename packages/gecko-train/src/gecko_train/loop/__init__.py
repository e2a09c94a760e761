"""The training loop: trainer, gradient caching, parallelism, checkpoints, schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.loop.trainer import Trainer
    from gecko_train.loop.watch import TrainingSummary

__all__ = [
    "Trainer",
    "TrainingSummary",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Trainer": "gecko_train.loop.trainer",
        "TrainingSummary": "gecko_train.loop.watch",
    },
)
