"""Linear layers in int8 on a CPU (VNNI): weights by output channel, inputs by ranges seen on fixed texts.

``y = scale_x * scale_w[o] * sum_k (x_q - zero) * w_q``, x_q unsigned with one scale and zero point for all inputs of a
layer, w_q signed with one scale for each output (Jacob et al. 2018, section 2). The ranges are fixed, not those of the
batch: a text's vector depends on the texts beside it in the last digits only. What lies outside is clipped.

oneDNN's product has no public name in PyTorch; :func:`has_int8_products` looks for the private one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from gecko_core.encode.products import Product

#: The smallest and the largest input of each product, by layer and name.
Ranges = dict[tuple[int, str], tuple[float, float]]
_ROWS = 2048


class Recording:
    """Where products that run meanwhile write the ranges of their inputs.

    Attributes:
        ranges: what was seen so far.
    """

    def __init__(self) -> None:
        self.ranges: Ranges = {}

    def see(self, name: tuple[int, str], x: Tensor) -> None:
        """Widen the range of a product by an input."""
        low, high = (float(end) for end in x.aminmax())
        before = self.ranges.get(name, (low, high))
        self.ranges[name] = (min(low, before[0]), max(high, before[1]))


_mode: ContextVar[Recording | Ranges | None] = ContextVar("int8", default=None)


def int8_mode() -> Recording | Ranges | None:
    """Return the ranges of int8 products, or where to record them; None where products are not in int8."""
    return _mode.get()


@contextmanager
def int8_products(mode: Recording | Ranges) -> Iterator[None]:
    """Within this block fused layers multiply in int8 by these ranges, or in fp32 and record their ranges."""
    token = _mode.set(mode)
    try:
        yield
    finally:
        _mode.reset(token)


def has_int8_products() -> bool:
    """Whether this processor and this PyTorch multiply int8 fast: x86 with VNNI, and oneDNN."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    names = ("qlinear_pointwise", "qlinear_prepack")
    return bool(vnni is not None and vnni() and all(hasattr(torch.ops.onednn, name) for name in names))


class Recorded:
    """A product whose inputs are recorded.

    Args:
        product: the product.
        recording: where to.
        name: the product's.
    """

    def __init__(self, product: Product, recording: Recording, name: tuple[int, str]) -> None:
        self._product, self._recording, self._name = product, recording, name

    def __call__(self, x: Tensor, *, gelu: str | None = None, add: Tensor | None = None) -> Tensor:
        """See :class:`gecko_core.encode.products.Product`."""
        self._recording.see(self._name, x)
        return self._product(x, gelu=gelu, add=add)


class Int8Product:
    """A linear layer in int8.

    Args:
        weight: (out, in), fp32.
        bias: (out,), fp32.
        low: smallest input.
        high: largest input.
        dtype: of the result.
        following: the product that the activation goes to; the result comes in its unsigned integers then.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        low: float,
        high: float,
        dtype: torch.dtype = torch.float32,
        following: Int8Product | None = None,
    ) -> None:
        low, high = min(low, 0.0), max(high, 0.0)  # zero must be a number of its own
        self.scale = max(high - low, 1e-12) / 255
        self.zero = round(-low / self.scale)
        self._scales = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
        integers = (weight / self._scales[:, None]).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(integers.contiguous(), [_ROWS, weight.shape[1]])
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        self._bias = bias
        self._dtype = dtype
        self._following = following

    def quantized(self, x: Tensor) -> Tensor:
        """Return inputs as the unsigned integers of this layer."""
        # Truncated, with a half added: rounded to the nearest.
        scaled = x.mul(1 / self.scale) if x.dtype == torch.float32 else x.float().mul_(1 / self.scale)
        return scaled.add_(self.zero + 0.5).clamp_(0, 255).to(torch.uint8)

    def __call__(self, x: Tensor, *, gelu: str | None = None, add: Tensor | None = None) -> Tensor:
        """See :class:`gecko_core.encode.products.Product`; ``x`` may come in unsigned integers."""
        inputs = (x if x.dtype == torch.uint8 else self.quantized(x), self.scale, self.zero)
        weight = (self._weight, self._scales, self._zeros)
        linear = torch.ops.onednn.qlinear_pointwise
        if add is not None:
            plain = (1.0, 0, self._dtype, 1.0, 0)  # no scale and zero point of the result, nor of `add`
            return linear.binary(*inputs, *weight, add, self._bias, *plain, "add", 1.0, "none", [], "")
        after = self._following
        result = (1.0, 0, self._dtype) if after is None else (after.scale, after.zero, torch.uint8)
        return linear(*inputs, *weight, self._bias, *result, "none" if gelu is None else "gelu", [], gelu or "")
