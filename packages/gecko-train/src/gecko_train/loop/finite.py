"""Losses, gradients and weights that are not finite: training stops, and no checkpoint has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import nn

from gecko_core.errors import DataError, ModelError
from gecko_core.io import write_json
from gecko_train.data.rows import TrainingRow

_CURE = "lower learning_rate or use precision: fp32"


def check_step(step: int, loss: float, norm: float, rows: Sequence[TrainingRow], path: Path) -> None:
    """Check the loss and the gradient of a step, before its update.

    Args:
        step: steps so far, this one included.
        loss: of the step.
        norm: of its gradient.
        rows: this rank's.
        path: the file for the rows of a step that fails.

    Raises:
        DataError: one of the two is not finite.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    write_json(path, [asdict(row) for row in rows], indent=1)
    raise DataError(
        f"step {step}: the loss ({loss}) or the gradient norm ({norm}) is not finite; its rows are in {path}; {_CURE}"
    )


def check_weights(step: int, model: nn.Module) -> None:
    """Check that the last step left numbers: its gradient was finite, what it made of the weights may not be.

    Args:
        step: steps so far.
        model: a Gecko model.

    Raises:
        DataError: it did not; no checkpoint has these weights.
    """
    try:
        cast(Any, model).check_finite(f"step {step}")
    except ModelError as error:
        raise DataError(f"{error}; {_CURE}") from None
