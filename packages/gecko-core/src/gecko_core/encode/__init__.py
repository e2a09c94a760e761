"""Texts to vectors: batches, packing, precision, attention on CPUs, processes, streams, smaller embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_core.devices import compute_dtype, has_fast_bf16, weights_dtype
    from gecko_core.encode.attention import BiasOfLastMask, attention_bias, two_products
    from gecko_core.encode.batches import WINDOW, plan_batches
    from gecko_core.encode.identity import config_content, model_identity, tokenizer_content
    from gecko_core.encode.pool import EncoderPool
    from gecko_core.encode.precision import probed_autocast, product_format
    from gecko_core.encode.probe import two_products_are_faster
    from gecko_core.encode.quantization import Ranges, dequantize, quantize, ranges_of
    from gecko_core.encode.rows import Columns, Row, read_rows
    from gecko_core.encode.stream import encode_stream

__all__ = [
    "WINDOW",
    "BiasOfLastMask",
    "Columns",
    "EncoderPool",
    "Ranges",
    "Row",
    "attention_bias",
    "compute_dtype",
    "config_content",
    "dequantize",
    "encode_stream",
    "has_fast_bf16",
    "model_identity",
    "plan_batches",
    "probed_autocast",
    "product_format",
    "quantize",
    "ranges_of",
    "read_rows",
    "tokenizer_content",
    "two_products",
    "two_products_are_faster",
    "weights_dtype",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BiasOfLastMask": "gecko_core.encode.attention",
        "Columns": "gecko_core.encode.rows",
        "EncoderPool": "gecko_core.encode.pool",
        "Ranges": "gecko_core.encode.quantization",
        "Row": "gecko_core.encode.rows",
        "WINDOW": "gecko_core.encode.batches",
        "attention_bias": "gecko_core.encode.attention",
        "compute_dtype": "gecko_core.devices",
        "config_content": "gecko_core.encode.identity",
        "dequantize": "gecko_core.encode.quantization",
        "encode_stream": "gecko_core.encode.stream",
        "has_fast_bf16": "gecko_core.devices",
        "model_identity": "gecko_core.encode.identity",
        "tokenizer_content": "gecko_core.encode.identity",
        "plan_batches": "gecko_core.encode.batches",
        "probed_autocast": "gecko_core.encode.precision",
        "product_format": "gecko_core.encode.precision",
        "quantize": "gecko_core.encode.quantization",
        "ranges_of": "gecko_core.encode.quantization",
        "read_rows": "gecko_core.encode.rows",
        "two_products": "gecko_core.encode.attention",
        "two_products_are_faster": "gecko_core.encode.probe",
        "weights_dtype": "gecko_core.devices",
    },
    __all__,
)
