"""What decides a model's vectors, as one hash: two models that share it give the same vectors for the same texts."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from gecko_core.encode.precision import product_format

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# Where a configuration says how, by whom and as what it was saved or loaded, which changes no vector.
_NOT_OF_VECTORS = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"}
_NOT_OF_VECTORS |= {"is_matryoshka", "matryoshka_dimensions"}


def model_identity(model: Gecko, *, weights: bool = True) -> str:
    """sha256 over weights, architecture, tokenizer, prompts, limits of length and width, and ``encode*``'s arithmetic.

    Parts of a result that were made under different identities do not belong together. The batch size, the device and
    the number of processes are left out: they change the last digits at most.

    Args:
        model: an embedder.
        weights: whether they count, and the arithmetic, which is chosen by them; False for a model in training.
    """
    products = product_format(model) if weights else ""
    what: list[Any] = [
        model.weights_hash() if weights else "",
        config_content(model.backbone.config),
        [repr(layer) for layer in model.head],
        tokenizer_content(model.tokenizer),
        model.prompt_style,
        {side: model.prompts.get(side, "") for side in ("query", "document")} if model.prompt_style == "plain" else {},
        model.max_seq_length,
        model.do_lower_case,
        str(model.dtype),
        {"bfloat16": "bf16 products", "int8": "int8 products"}.get(products, ""),
        *([f"{model.truncate_dim} dims"] if model.truncate_dim not in (None, model.dim) else []),
    ]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def config_content(config: Any) -> dict[str, Any]:
    """Return what of a backbone's configuration decides its vectors."""
    return {key: value for key, value in config.to_dict().items() if key not in _NOT_OF_VECTORS}


def tokenizer_content(tokenizer: Any) -> list[Any]:
    """Return what decides a tokenizer's tokens."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None:  # of Python: its class, vocabulary and special tokens are what can be had
        return [type(tokenizer).__name__, tokenizer.get_vocab(), tokenizer.special_tokens_map]
    content = json.loads(core.to_str())
    content.pop("truncation", None)  # set at every call
    content.pop("padding", None)
    return [content, tokenizer.pad_token_id, *(["left"] if tokenizer.truncation_side == "left" else [])]
