"""Patience: training ends when as many evaluations as the recipe allows have brought nothing better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gecko_eval.in_training import best_step
from gecko_train.loop.parallel import of_first_rank


class Patience:
    """The scores of all evaluations so far, and whether it is time to stop.

    Args:
        evaluations: that may pass without a better one; None: as many as there are, and no score is kept.
        device: where ranks exchange scores.
    """

    def __init__(self, evaluations: int | None, device: torch.device):
        self._evaluations, self._device = evaluations, device
        self._scores: dict[int, float | None] = {}

    def keep(self, step: int, score: float | None) -> None:
        """Keep the score for the decision to stop, which must be the first rank's on all of them.

        Args:
            step: optimizer steps so far.
            score: what the evaluation gave; None: nothing.
        """
        if score is not None and self._evaluations:
            self._scores[step] = of_first_rank(score, self._device)

    @property
    def is_over(self) -> bool:
        """Whether as many evaluations as allowed came after the best one."""
        best = best_step(self._scores)
        if self._evaluations is None or best is None:
            return False
        return sum(step > best for step in self._scores) >= self._evaluations

    def record(self) -> dict[str, Any]:
        """What a checkpoint's state keeps."""
        return {"scores": list(self._scores.items())} if self._evaluations else {}

    def recall(self, state: Mapping[str, Any]) -> None:
        """Go on with the scores of a checkpoint's state."""
        self._scores = {int(step): score for step, score in state.get("scores", [])}
