"""Mixing the weights of models of one kind: linear interpolation, and spherical interpolation (slerp) per tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Method = Literal["linear", "slerp"]

# Below this sine of the angle two tensors are as good as (anti)parallel: slerp and linear interpolation then differ by
# less than fp32 can hold, and the weights of slerp are a quotient of two numbers near 0.
_LEAST_SINE = 1e-7


def interpolate(start: Tensor, end: Tensor, share: float, method: Method = "linear") -> Tensor:
    """A tensor ``share`` of the way from ``start`` to ``end``, computed in fp64.

    Args:
        start: share 0, returned bit for bit; buffers that are not of floats always are.
        end: share 1, returned bit for bit; of the same shape.
        share: between 0 and 1.
        method: ``linear``, or ``slerp`` on the flattened tensors.

    Returns:
        A tensor of ``start``'s shape and dtype.
    """
    if share == 0 or not start.is_floating_point() or torch.equal(start, end):
        return start.clone()
    if share == 1:
        return end.clone()
    a, b = start.double(), end.double()
    mixed = slerp(a, b, share) if method == "slerp" else a * (1 - share) + b * share
    return mixed.to(start.dtype)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985) of two tensors, taken as one vector each.

    The angle is that of the directions; the weights sin((1 - t) w) / sin w and sin(t w) / sin w apply to the vectors as
    they are, so that norms are interpolated too. Where no angle is defined (a vector of zeros) or the way is not
    (opposite directions), and for parallel vectors, where both are the same, the interpolation is linear.

    Args:
        start: fp64, any shape.
        end: fp64, the same shape.
        share: t, between 0 and 1.
    """
    lengths = start.norm(), end.norm()
    if min(lengths) == 0:
        return start * (1 - share) + end * share
    u, v = start / lengths[0], end / lengths[1]
    # Half-angle form: the arc cosine of a product near 1 would lose half of the digits (Kahan 2006).
    angle = 2 * math.atan2(float((u - v).norm()), float((u + v).norm()))
    sine = math.sin(angle)
    if sine < _LEAST_SINE:
        return start * (1 - share) + end * share
    return start * (math.sin((1 - share) * angle) / sine) + end * (math.sin(share * angle) / sine)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of all weights and buffers, the head's included."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


@torch.no_grad()
def set_between(
    model: nn.Module, start: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float, method: Method
) -> None:
    """Give ``model`` the weights ``share`` of the way from ``start`` to ``end``, in place.

    Args:
        model: of the same kind.
        start: of all its weights and buffers, see :func:`weights_of`.
        end: likewise.
        share: see :func:`interpolate`.
        method: likewise.
    """
    for name, tensor in model.state_dict().items():
        tensor.copy_(interpolate(start[name], end[name], share, method))
