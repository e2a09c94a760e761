"""Linear layers made ready for many calls without gradients on a CPU: ``activation(x @ weight.T + bias) + residual``.

oneDNN, which PyTorch brings along, keeps a weight in the order in which its kernels read it and applies the activation
or adds the residual while a block of the result is still in the cache. PyTorch has no public name for this;
:func:`onednn_has_products` looks for the private ones, and without them :class:`TorchProduct` does the same in steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Names of activations in a Hugging Face config to what :func:`gelu` and oneDNN call them.
GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu_fast": "tanh"}
# oneDNN chooses the order of a weight for a number of rows; it serves all others nearly as well.
_ROWS = 2048


class Product(Protocol):
    """A linear layer, ready to be called with (T, in) of its dtype."""

    def __call__(self, x: Tensor, *, gelu: str | None = None, add: Tensor | None = None) -> Tensor:
        """Return (T, out): the product, GELU of it ("none" or "tanh" approximated), or its sum with ``add``."""
        ...


class TorchProduct:
    """PyTorch's own product.

    Args:
        weight: (out, in).
        bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor, *, gelu: str | None = None, add: Tensor | None = None) -> Tensor:
        """See :class:`Product`."""
        return _finished(functional.linear(x, self._weight, self._bias), gelu, add)


class OneDnnProduct:
    """oneDNN's product with the weight in oneDNN's order; fp32 or bf16.

    Args:
        weight: (out, in).
        bias: (out,).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self._bias = None if bias is None else bias.detach()

    def __call__(self, x: Tensor, *, gelu: str | None = None, add: Tensor | None = None) -> Tensor:
        """See :class:`Product`."""
        linear = torch.ops.mkldnn._linear_pointwise
        if add is not None:
            return linear.binary(x, add, self._weight, self._bias, "add")
        return linear(x, self._weight, self._bias, "none" if gelu is None else "gelu", [], gelu or "")


def onednn_has_products(dtype: torch.dtype) -> bool:
    """Whether :class:`OneDnnProduct` works here: this PyTorch has oneDNN's products, the processor knows the dtype."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_reorder_linear_weight")):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def joined(layers: list[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Return weight (sum of out, in) and bias of several linear layers of the same input, to be one product.

    Returns:
        Copies; the bias is None where no layer has one.
    """
    weight = torch.cat([layer.weight.detach() for layer in layers])
    if all(layer.bias is None for layer in layers):
        return weight, None
    zeros: Callable[[nn.Linear], Tensor] = lambda layer: layer.weight.new_zeros(layer.out_features)  # noqa: E731
    return weight, torch.cat([zeros(layer) if layer.bias is None else layer.bias.detach() for layer in layers])


def _finished(y: Tensor, gelu: str | None, add: Tensor | None) -> Tensor:
    if gelu is not None:
        y = functional.gelu(y, approximate=gelu)
    return y if add is None else y + add
