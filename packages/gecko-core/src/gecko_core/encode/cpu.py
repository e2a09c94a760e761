"""How we multiply on a CPU: two replacements for what PyTorch would pick, where they were measured to be faster.

*fp32 products.* PyTorch hands them to MKL, which on some of AMD's processors does not use the AVX-512 units; oneDNN,
which PyTorch brings along as well, does, and takes half of the time there, forward and backward.

*Attention.* Two products around a softmax instead of PyTorch's fused kernel, see ``attention.py``.

Which it is to be is measured once, see ``probe.py``. Both are installed by a ``TorchFunctionMode``: in this thread, for
the time of the block, without touching the model. (What gradient checkpointing computes again in the backward pass lies
outside the block.) ``GECKO_COMPUTE=torch`` leaves everything to PyTorch; ``GECKO_COMPUTE=explain`` prints what was
measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gecko_core.encode.attention import attention_bias, two_products
from gecko_core.encode.dropout import dropout
from gecko_core.encode.probe import compute_choice, onednn_is_faster, two_products_are_faster


@dataclass(frozen=True)
class Tile:
    """Neighbouring texts of a packed batch that attend together, padded among themselves to the longest of them.

    Attributes:
        rows: the token at each place; any token where ``seen`` is False. (n, L) int64.
        seen: whether there is a token, (n, L) bool; None where all texts are of length L.
        places: where each of the tile's tokens lies in ``rows.flatten()``, (t,) int64.
        tokens: the tile's tokens in the batch.
    """

    rows: Tensor
    seen: Tensor | None
    places: Tensor
    tokens: slice


class Compute(TorchFunctionMode):
    """Within this block, a CPU computes fp32 ``linear`` and ``scaled_dot_product_attention`` in the fastest way it has.

    Args:
        tiles: how the texts of a packed batch lie; attention then stays within each text. A packed batch gives as its
            attention mask the one number of :func:`window`.
        positions: what is added to the scores of texts of a length L, (1, H, L, L) or one that broadcasts to it.
        training: whether the model is in training mode; passes with and without gradients are alike then.
    """

    def __init__(
        self,
        tiles: Sequence[Tile] = (),
        positions: Callable[[int], Tensor] | None = None,
        *,
        training: bool = False,
    ) -> None:
        super().__init__()
        self.training = training
        self.tiles = tiles
        self.positions = positions
        self.fast = compute_choice() != "torch"
        self.biases: dict[Any, Tensor | None] = {}

    def attention(self, qkv: Tensor) -> Tensor:
        """Attention within each text of a packed batch, both ways: queries, keys, values (T, 3, H, d) -> (T, H * d)."""
        out = qkv.new_empty(qkv.shape[0], qkv.shape[2], qkv.shape[3])
        out[self.tiles[-1].tokens.stop :] = 0  # where a token belongs to no text
        for number, tile in enumerate(self.tiles):
            q, k, v = _in_tile(qkv, tile).permute(2, 0, 3, 1, 4)
            self._attend(number, (q, k, v), out, reach=-1, factor=qkv.shape[3] ** -0.5)
        return out.flatten(1)

    def _attend(
        self,
        number: int,
        parts: Sequence[Tensor],  # query, key, value: (n, H, L, d)
        out: Tensor,  # (T, H, d), in which the tile's tokens are filled in
        reach: int,
        factor: float,
        dropout: float = 0.0,
    ) -> None:
        tile, (query, key, value) = self.tiles[number], parts
        kind, dtype = query.device.type, query.dtype
        fast = self.fast and kind == "cpu"
        # PyTorch's fused kernel has no dropout on a CPU: with it, it is two products and more.
        length = tile.rows.shape[1]
        fast = fast and (bool(dropout) or two_products_are_faster(dtype, length, gradients=self.training))
        name = (number, reach, fast, dtype)
        if name not in self.biases:  # the same for every layer
            self.biases[name] = _bias(tile, reach, query.shape[1] if fast else 1, dtype, self.positions)
        attend = two_products if fast else _fused
        attended = attend(query, key, value, self.biases[name], factor, dropout)
        if tile.seen is None:
            out[tile.tokens].unflatten(0, tile.rows.shape).copy_(attended.transpose(1, 2))
            return
        rows = attended.transpose(1, 2).flatten(0, 1)
        if rows.requires_grad:
            out[tile.tokens] = rows.index_select(0, tile.places)
        else:
            torch.index_select(rows, 0, tile.places, out=out[tile.tokens])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.linear and self.fast and len(args) >= 2 and not kwargs:
            return _linear(*args)
        if func is functional.scaled_dot_product_attention and self.tiles:
            return packed_attention(self, *args, **kwargs)
        if func is functional.dropout and self.fast:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if training and not inplace and input.device.type == "cpu":
        return dropout(input, p)
    return functional.dropout(input, p, training, inplace)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu" and x.numel() > 0
    plain = plain and type(weight) in (Tensor, nn.Parameter)  # not a shard, not a quantised weight
    if not plain or torch.is_autocast_enabled("cpu") or not onednn_is_faster():
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return cast(Tensor, _OneDnnLinear.apply(x, weight, bias))
    return _onednn(x, weight, bias)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _OneDnnLinear(torch.autograd.Function):
    """``linear``, whose three products all go to oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            _onednn(gradient, weight.t()) if for_x else None,
            _onednn(rows.t(), x.reshape(-1, x.shape[-1]).t()) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )


def window(reach: int | None) -> Tensor:
    """Return the attention mask of a packed batch, (1, 1, 1, 1) int64.

    transformers' models pass on a mask of four dimensions as it is.

    Args:
        reach: how many tokens a token sees to each side; None for the whole text.
    """
    return torch.full((1, 1, 1, 1), -1 if reach is None else reach, dtype=torch.int64)


def packed_attention(
    compute: Compute,
    query: Tensor,  # (1, H, T, d)
    key: Tensor,  # (1, K, T, d), K divides H
    value: Tensor,  # (1, K, T, d)
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:  # (1, H, T, d)
    """``scaled_dot_product_attention`` within each text of a packed batch, both ways, as far as ``window`` says."""
    reach = -1 if attn_mask is None else int(attn_mask)
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(kind, enabled=False):
        # (T, heads, d) each, in the dtype that autocast would have chosen.
        q, k, v = (x[0].transpose(0, 1).to(dtype) for x in (query, key, value))
        if len(k[0]) != len(q[0]):
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        out = q.new_zeros(q.shape[0], q.shape[1], v.shape[2])  # zero where a token belongs to no text
        for number, tile in enumerate(compute.tiles):
            parts = [_in_tile(x, tile).transpose(1, 2) for x in (q, k, v)]  # (n, H, L, d)
            compute._attend(number, parts, out, reach, factor, dropout_p)
    return out.transpose(0, 1)[None]


def _in_tile(x: Tensor, tile: Tile) -> Tensor:  # (T, heads, d) -> (n, L, heads, d)
    if tile.seen is None:
        return x[tile.tokens].unflatten(0, tile.rows.shape)
    if not x.requires_grad:
        return x.index_select(0, tile.rows.flatten()).unflatten(0, tile.rows.shape)
    # The gradient of x[rows] adds up what comes for a token, one by one; this one's is a plain gather.
    places = x.new_zeros(tile.rows.numel(), *x.shape[1:])
    return places.index_copy(0, tile.places, x[tile.tokens]).unflatten(0, tile.rows.shape)


def _fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, factor: float, dropout: float) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=factor)


def _bias(
    tile: Tile, reach: int, heads: int, dtype: torch.dtype, positions: Callable[[int], Tensor] | None
) -> Tensor | None:
    """0 (or what ``positions`` says) where a token sees another, -inf where not: (n, heads, L, L); None is all 0.

    With ``positions`` there are as many heads as those have, whatever ``heads`` is.
    """
    texts, length = tile.rows.shape
    sees = tile.seen[:, None, :].expand(texts, length, length) if tile.seen is not None else None
    if 0 <= reach < length - 1:
        place = torch.arange(length, device=tile.rows.device)
        near = ((place[:, None] - place[None]).abs() <= reach)[None].expand(texts, length, length)
        # A place beyond the end of its text still sees itself: a row of nothing but -inf would be NaN.
        sees = near if sees is None else (near & sees) | torch.eye(length, dtype=torch.bool, device=near.device)
    if positions is not None:
        bias = positions(length).to(dtype).expand(texts, -1, -1, -1)
        return bias.contiguous() if sees is None else bias.masked_fill(~sees[:, None], -torch.inf)
    return None if sees is None else attention_bias(sees[:, None], heads, dtype)
