"""Encoders of BERT's kind without gradients on a CPU: the same layers in fewer and larger steps.

Query, key and value are one product; GELU and, where all is of one dtype, the sum with the residual are part of the
products before them (:mod:`gecko_core.encode.products`), whose weights lie in the order in which they are read. What
comes out differs from the modules' own results by rounding only.

Within :func:`gecko_core.encode.int8.int8_products` the products are in int8, attention in the dtype that the processor
is fast at, and all else in fp32.

Only layers that are transformers' own are fused: where a class, a ``forward`` or an activation is another, or a hook is
set, the modules run. The weights made ready are kept with the model and made anew when its own have changed
(:mod:`gecko_core.encode.state`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gecko_core.backbones.base import takes_long_rows
from gecko_core.devices import compute_dtype
from gecko_core.encode.cpu import Compute
from gecko_core.encode.int8 import Int8Product, Ranges, Recorded, Recording, has_int8_products, int8_mode
from gecko_core.encode.packing import Packed
from gecko_core.encode.probe import choices, compute_choice
from gecko_core.encode.products import GELU, OneDnnProduct, Product, TorchProduct, joined, onednn_has_products
from gecko_core.encode.state import weights_state

# Where a family keeps its stack of layers, and a layer its parts.
_BERT = {
    "layers": "encoder.layer",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "first_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "last_norm": "output.LayerNorm",
    "activation": "intermediate.intermediate_act_fn",
}
_MPNET = _BERT | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "out": "attention.attn.o",
    "first_norm": "attention.LayerNorm",
}
_DISTILBERT = {
    "layers": "transformer.layer",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "out": "attention.out_lin",
    "first_norm": "sa_layer_norm",
    "inner": "ffn.lin1",
    "outer": "ffn.lin2",
    "last_norm": "output_layer_norm",
    "activation": "ffn.activation",
}
FAMILIES = {
    **dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta", "camembert"), _BERT),
    "mpnet": _MPNET,
    "distilbert": _DISTILBERT,
}
_PRODUCTS = ("query", "key", "value", "out", "inner", "outer")
_JOINED = {"qkv": ("query", "key", "value"), "out": ("out",), "inner": ("inner",), "outer": ("outer",)}
# Where the classes come from whose forward passes are known.
_KNOWN = ("torch.nn.", "transformers.models.", "transformers.activations", "transformers.modeling_")


@dataclass(frozen=True)
class _Layer:
    qkv: Product
    out: Product
    inner: Product
    outer: Product
    first_norm: nn.LayerNorm
    last_norm: nn.LayerNorm
    gelu: str


_ready: WeakKeyDictionary[nn.Module, tuple[Any, list[_Layer]]] = WeakKeyDictionary()


def fuses(model: nn.Module) -> bool:
    """Whether :func:`fused_states` can run this backbone as things are now."""
    config: Any = model.config
    if config.model_type not in FAMILIES or torch.is_grad_enabled() or compute_choice() == "torch":
        return False
    if not takes_long_rows():  # the embeddings' modules
        return False
    if _activation(config) not in GELU or getattr(config, "position_embedding_type", "absolute") != "absolute":
        return False
    if config.model_type != "mpnet" and getattr(config, "_attn_implementation", "sdpa") != "sdpa":
        return False  # somebody's choice; MPNet has none
    if _globally_hooked() or not all(map(_as_published, model.modules())):
        return False
    layers = list(_layers(model))
    if not layers or not all(_plain(layer, _activation(config)) for layer in layers):
        return False
    weight = layers[0]["query"].weight
    if int8_mode() is not None and not (has_int8_products() and weight.dtype == torch.float32):
        return False
    return bool(weight.device.type == "cpu" and onednn_has_products(_dtype(weight)))


def fused_states(model: nn.Module, batch: Packed) -> Tensor:
    """Last hidden states (T, D) of texts laid end to end, each as if it were alone. Only where :func:`fuses`.

    Args:
        model: the backbone.
        batch: texts, T tokens.
    """
    config: Any = model.config
    hidden = _embeddings(model, batch)
    layers = _prepared(model)
    dtype = _dtype(next(_layers(model))["query"].weight)
    heads = int(config.num_attention_heads)
    compute = Compute(batch.tiles, _position_bias(model) if config.model_type == "mpnet" else None)
    with torch.autocast("cpu", enabled=False):
        for layer in layers:
            hidden = _through(layer, hidden, dtype, heads, compute)
    return hidden


def _through(layer: _Layer, hidden: Tensor, dtype: torch.dtype, heads: int, compute: Compute) -> Tensor:
    """One layer: (T, D) -> (T, D). Under autocast the residual stays in fp32, as it does in the modules."""
    mixed = hidden.dtype != dtype
    x = hidden.to(dtype)
    seen = compute.attention(layer.qkv(x).unflatten(-1, (3, heads, -1)))
    hidden = layer.first_norm(hidden + layer.out(seen) if mixed else layer.out(seen, add=x))
    x = hidden.to(dtype)
    inner = layer.inner(x, gelu=layer.gelu)
    return layer.last_norm(hidden + layer.outer(inner) if mixed else layer.outer(inner, add=x))


def _embeddings(model: Any, batch: Packed) -> Tensor:
    hidden = model.embeddings(input_ids=batch.input_ids[None], position_ids=batch.position_ids[None])
    if hasattr(model, "embeddings_project"):  # ELECTRA, where the embeddings are narrower
        hidden = model.embeddings_project(hidden)
    return hidden[0]


def _position_bias(model: Any) -> Callable[[int], Tensor]:
    """MPNet's bias by distance: what of a length L gives (1, H, L, L)."""
    return lambda length: model.encoder.compute_position_bias(torch.empty(1, length))


def _prepared(model: nn.Module) -> list[_Layer]:
    parts = list(_layers(model))
    mode = int8_mode()
    if isinstance(mode, Recording):
        return _made_ready(model, parts)
    state = (_dtype(parts[0]["query"].weight), choices().prepared, mode, weights_state(model))
    kept = _ready.get(model)
    if kept is None or kept[0] != state:
        kept = _ready[model] = (state, _made_ready(model, parts))
    return kept[1]


def _made_ready(model: nn.Module, layers: list[dict[str, Any]]) -> list[_Layer]:
    gelu, mode = GELU[_activation(model.config)], int8_mode()
    ready = []
    for number, parts in enumerate(layers):
        products = _int8(parts, number, mode) if isinstance(mode, dict) else _products(parts, number, mode)
        ready.append(_Layer(**products, first_norm=parts["first_norm"], last_norm=parts["last_norm"], gelu=gelu))
    return ready


def _products(parts: dict[str, Any], number: int, recording: Recording | None) -> dict[str, Product]:
    made: dict[str, Product] = {}
    for name, of in _JOINED.items():
        weight, bias = joined([parts[part] for part in of])
        dtype = _dtype(weight)
        kind = OneDnnProduct if dtype != torch.float32 or choices().prepared else TorchProduct
        product = kind(weight.to(dtype), None if bias is None else bias.to(dtype))
        made[name] = product if recording is None else Recorded(product, recording, (number, name))
    return made


def _int8(parts: dict[str, Any], number: int, ranges: Ranges) -> dict[str, Product]:
    made: dict[str, Int8Product] = {}
    for name, of in reversed(_JOINED.items()):  # "inner" needs "outer"
        weight, bias = joined([parts[part] for part in of])
        made[name] = Int8Product(
            *(weight.float(), None if bias is None else bias.float(), *ranges[number, name]),
            dtype=compute_dtype(weight.device) if name == "qkv" else torch.float32,
            following=made["outer"] if name == "inner" else None,
        )
    return dict(made)


def _layers(model: Any) -> Iterator[dict[str, Any]]:
    """The parts of each layer by the names of ``_BERT``."""
    names = FAMILIES[model.config.model_type]
    for layer in attrgetter(names["layers"])(model):
        yield {part: attrgetter(path)(layer) for part, path in names.items() if part != "layers"}


def _plain(layer: dict[str, nn.Module], activation: str) -> bool:
    """Whether these are PyTorch's own modules with weights of their own, not adapters, shards or quantised ones."""
    kinds = {part: nn.LayerNorm if part.endswith("norm") else nn.Linear for part in layer}
    kinds["activation"] = _class_of(activation)
    return all(type(module) is kinds[part] for part, module in layer.items()) and all(
        type(weight) in (Tensor, nn.Parameter) for module in layer.values() for weight in module.parameters()
    )


@cache
def _class_of(activation: str) -> type[nn.Module]:
    from transformers.activations import ACT2FN

    return type(ACT2FN[activation])


def _as_published(module: nn.Module) -> bool:
    """Whether a module computes what its class, known here, says; without dropout."""
    return not (
        module.training
        or module._forward_hooks
        or module._forward_pre_hooks
        or "forward" in module.__dict__
        or not type(module).__module__.startswith(_KNOWN)
    )


def _globally_hooked() -> bool:
    hooks = nn.modules.module
    return bool(hooks._global_forward_hooks or hooks._global_forward_pre_hooks)


def _activation(config: Any) -> Any:
    return config.activation if config.model_type == "distilbert" else config.hidden_act


def _dtype(weight: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
