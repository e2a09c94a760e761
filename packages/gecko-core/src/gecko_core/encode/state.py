"""Whether a model's weights are still those that something was made of: prepared products, ranges, a check of bf16."""

from __future__ import annotations

import math
from collections.abc import Hashable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

_SAMPLE = 16  # numbers of each weight
_samples: WeakKeyDictionary[nn.Module, tuple[Hashable, list[np.ndarray]]] = WeakKeyDictionary()


def weights_state(model: nn.Module) -> Hashable:
    """Return what differs once a parameter has been replaced or changed.

    PyTorch counts changes in place, such as an optimizer's; those through ``weight.data`` it does not. On a CPU they
    are noticed by 16 numbers of each parameter, from as many of its rows and columns.

    Args:
        model: whose parameters are looked at.
    """
    parameters = list(model.parameters())
    places = tuple(map(_place, parameters))
    kept = _samples.get(model)
    if kept is None or kept[0] != places:
        kept = _samples[model] = (places, [_sample(weight) for weight in parameters if _is_plain(weight)])
    return places, b"".join(numbers.tobytes() for numbers in kept[1])


def _place(weight: Tensor) -> tuple[int, int, int]:
    version = 0 if weight.is_inference() else weight._version
    return id(weight), weight.data_ptr() if _is_plain(weight) else 0, version


def _is_plain(weight: Tensor) -> bool:
    return type(weight) in (Tensor, nn.Parameter) and weight.device.type == "cpu"


def _sample(weight: Tensor) -> np.ndarray:
    """A view, in which later changes show."""
    weight = weight.detach()
    weight = weight.permute(sorted(range(weight.ndim), key=lambda axis: -weight.stride(axis)))
    if weight.dtype == torch.bfloat16:  # NumPy has none
        weight = weight.view(torch.int16)
    if not weight.is_contiguous():  # a part of a larger one
        return weight[tuple(slice(None, None, max(1, size // 4)) for size in weight.shape)].numpy()
    flat = weight.view(-1)
    step = max(1, len(flat) // _SAMPLE)
    while weight.ndim and math.gcd(step, weight.shape[-1]) > 1:  # a multiple of the width would stay in one column
        step -= 1
    return flat[::step][:_SAMPLE].numpy()
