"""How `encode*` multiplies on a CPU: two replacements for what PyTorch would pick, measured and explained here.

*fp32 products.* PyTorch hands them to MKL, which does not use the AVX-512 units of AMD's processors; oneDNN, which
PyTorch brings along as well, does, and takes half of the time there.

*Attention.* PyTorch's fused kernel saves memory, not time, at the lengths of passages: two batched products around a
softmax are up to twice as fast. Beyond the lengths below the fused kernel is used.

Both are installed by a `TorchFunctionMode`: in this thread, for the time of the block, without touching the model.
`GECKO_COMPUTE=torch` leaves everything to PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gecko_core.errors import ConfigError

# Up to here two batched products beat the fused kernel (tokens per text).
_SHORT = {torch.bfloat16: 1024, torch.float32: 256}


class Group(NamedTuple):
    """Texts of equal length, laid end to end from token `start`."""

    start: int
    texts: int
    length: int


class Compute(TorchFunctionMode):
    """Within this block, fp32 `linear` and `scaled_dot_product_attention` on a CPU go the faster way.

    groups: where the texts of a packed batch lie; attention then stays within each text. A packed batch gives as its
    attention mask the one number of `window`.
    """

    def __init__(self, groups: Sequence[Group] = ()) -> None:
        super().__init__()
        self.groups = groups
        self.fast = compute_choice() == "auto"

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and self.fast and len(args) >= 2 and not kwargs:
            return _linear(*args)
        if func is functional.scaled_dot_product_attention and self.groups:
            return packed_attention(self.groups, self.fast, *args, **kwargs)
        return func(*args, **kwargs)


def compute_choice() -> str:
    """ "auto" or "torch" out of GECKO_COMPUTE. Raises `ConfigError` for anything else."""
    choice = os.environ.get("GECKO_COMPUTE", "auto") or "auto"
    if choice not in ("auto", "torch"):
        raise ConfigError(f"GECKO_COMPUTE must be auto or torch, not {choice!r}")
    return choice


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether fp32 products belong to oneDNN: PyTorch would take MKL, and the processor is AMD's with AVX-512."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    try:
        vendor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in vendor and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    if not plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not onednn_is_faster():
        return functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def window(reach: int | None) -> Tensor:
    """The attention mask of a packed batch: how far a token sees, None for the whole text. (1, 1, 1, 1) int64.

    Models of transformers pass on a mask of four dimensions as it is.
    """
    return torch.full((1, 1, 1, 1), -1 if reach is None else reach, dtype=torch.int64)


def packed_attention(
    groups: Sequence[Group],
    fast: bool,
    query: Tensor,  # (1, H, T, d)
    key: Tensor,  # (1, K, T, d), K divides H
    value: Tensor,  # (1, K, T, d)
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # (1, H, T, d)
    """`scaled_dot_product_attention` within each text of a packed batch, both ways, as far as `window` says."""
    reach = -1 if attn_mask is None else int(attn_mask)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    with torch.autocast(query.device.type, enabled=False):
        # (T, heads, d) each; the dtype that autocast would have chosen.
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
        out = q.new_empty(q.shape[0], q.shape[1], v.shape[2])
        for group in groups:
            tokens = slice(group.start, group.start + group.texts * group.length)
            parts = [x[tokens].unflatten(0, (group.texts, group.length)).transpose(1, 2) for x in (q, k, v)]
            # Made as (texts, tokens, heads, d), so that the copy into `out` is one run of memory.
            out[tokens].unflatten(0, (group.texts, group.length)).copy_(
                _attend(*parts, reach=reach, scale=scale, fast=fast).transpose(1, 2)
            )
    return out.transpose(0, 1)[None]


def _attend(query: Tensor, key: Tensor, value: Tensor, *, reach: int, scale: float | None, fast: bool) -> Tensor:
    """(B, H, L, d), (B, K, L, d), (B, K, L, d) -> (B, H, L, d), texts of one length and hence without padding."""
    texts, heads, length, width = query.shape
    if key.shape[1] != heads:
        key, value = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (key, value))
    near = None
    if 0 <= reach < length - 1:
        place = torch.arange(length, device=query.device)
        near = (place[:, None] - place[None]).abs() <= reach
    if not fast or query.device.type != "cpu" or length > _SHORT.get(query.dtype, 0):
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=near, scale=scale)
    q, k, v = (x.reshape(texts * heads, length, -1) for x in (query, key, value))
    factor = width**-0.5 if scale is None else scale
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=factor)
    if near is not None:
        scores.masked_fill_(~near, -torch.inf)
    return torch.bmm(torch.softmax(scores, dim=-1), v).unflatten(0, (texts, heads))
