"""Registration of operators with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def operator(name: str, schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as ``torch.ops.gecko_kernels.<name>`` on every device.

    ``torch.library.custom_op`` does the same but imports torch._dynamo at the first call, which takes several seconds:
    too long for a process that encodes a few texts.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        qualified = f"gecko_kernels::{name}"
        torch.library.define(qualified, schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(qualified, "default")(function)
        return function

    return register


def refuse_second_derivative(name: str) -> None:
    """Make a second derivative through an operator of the backward pass an error instead of a silent zero."""

    def backward(ctx: Any, *upstream: Any) -> Any:
        raise RuntimeError(
            f"gecko_kernels::{name} has no derivative: second derivatives need GECKO_KERNELS_BACKEND=reference"
        )

    torch.library.register_autograd(f"gecko_kernels::{name}", backward)


# What a loss that has its gradients does in the backward pass. An operator of its own, so that a second derivative is
# refused rather than silently zero.
@operator("scale", "(Tensor gradient, Tensor upstream) -> Tensor")
def _scale(gradient, upstream):  # type: ignore[no-untyped-def]
    return (gradient * upstream).to(gradient.dtype)


@torch.library.register_fake("gecko_kernels::scale")
def _scale_fake(gradient, upstream):  # type: ignore[no-untyped-def]
    return torch.empty_like(gradient)


refuse_second_derivative("scale")
