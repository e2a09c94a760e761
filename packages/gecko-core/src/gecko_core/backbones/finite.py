"""Weights that are numbers: one that is not spoils every vector."""

from __future__ import annotations

import torch
from torch import nn

from gecko_core.errors import ModelError


def check_finite(model: nn.Module, where: object, cure: str) -> None:
    """Make sure that every weight is a number; on several ranks each looks at its own shards.

    Args:
        model: all of a model, or a part of it.
        where: what the weights were read from or are about to become, for the message.
        cure: what to do, for the message.

    Raises:
        ModelError: some are NaN or infinite.
    """
    broken = []
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        local = value.to_local() if hasattr(value, "to_local") else value
        if local.is_floating_point() and not bool(torch.isfinite(local).all()):
            broken.append(name)
    if broken:
        others = ", ..." if len(broken) > 1 else ""
        raise ModelError(f"{where}: {len(broken)} of the weights' tensors are not finite ({broken[0]}{others}); {cure}")
