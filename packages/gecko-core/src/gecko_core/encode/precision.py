"""What encoding computes in: bf16 where the device is fast at it and the vectors stay where they are; int8 if asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gecko_core.devices import compute_dtype
from gecko_core.encode.int8 import Ranges, Recording, int8_products
from gecko_core.encode.state import weights_state
from gecko_core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from gecko_core.model import Gecko

LOWEST_COSINE = 0.9995
#: Below this, int8 is refused: vectors of other texts would be worse still than those of the probe, on which the ranges
#: of int8 are measured.
LOWEST_INT8_COSINE = 0.97
# Fixed, so that whether bf16 is used depends on the weights alone and never on what is encoded first.
PROBE = (
    "gecko",
    "Tokays are large geckos whose males bark at night.",
    "task: search result | query: how do geckos walk on ceilings",
    "def area(radius): return 3.141592653589793 * radius ** 2",
    "1996-08-29; total 12,407.50; see annex B (revised), section 4.2.1",
    "title: Adhesion | text: Van der Waals forces between the setae of the toe pads and the surface hold the animal.",
    "Der Mauergecko lebt rund um das Mittelmeer; 守宫; ヤモリ; гекконы; geco; وزغ",
    " ".join(["The house was quiet and the lamp drew moths to the wall where it waited."] * 8),
)


def probed_autocast(model: Gecko) -> AbstractContextManager[Any]:
    """Return the context of ``encode*``: autocast to bf16, int8 products, or nothing.

    Matrix products are in bf16 where ``model.auto_bf16`` allows it, the device is fast at them, and the embeddings of
    ``PROBE`` keep a cosine of at least ``LOWEST_COSINE`` to fp32's at every Matryoshka width; in int8 where
    ``model.int8`` asks for it.

    Raises:
        ConfigError: int8 on a device or for a backbone that has none.
        ModelError: int8 moves the vectors too far.
    """
    if model.int8:
        with _evaluating(model):
            return int8_products(_int8_ranges(model))
    wanted = model.auto_bf16 and model.dtype == torch.float32 and compute_dtype(model.device) == torch.bfloat16
    if not wanted or not _keeps_vectors(model):
        return nullcontext()
    return torch.autocast(model.device.type, dtype=torch.bfloat16)


def product_format(model: Gecko) -> str:
    """Return the format in which ``encode*`` multiplies where it is not that of the weights, "bfloat16" or "int8"."""
    if model.int8:
        return "int8"
    with torch.inference_mode():
        return "bfloat16" if isinstance(probed_autocast(model), torch.autocast) else ""


def check_int8(model: Gecko) -> None:
    """Make sure that a model can compute in int8 here.

    Raises:
        ConfigError: it cannot.
    """
    with torch.inference_mode(), int8_products({}):
        if not (model.runs_packed and model.adapter.fuses(model.backbone)):
            config: Any = model.backbone.config
            raise ConfigError(
                f"int8 needs an x86 CPU with VNNI, transformers 5 and an encoder of BERT's kind in fp32, with GELU, as "
                "transformers publishes it, without hooks, padding or GECKO_COMPUTE=torch (this is "
                f"{config.model_type} on {model.device}); use float32 or the default"
            )


def _int8_ranges(model: Gecko) -> Ranges:
    """Measure the ranges of the layers' inputs on the probe, once for each state of the weights."""
    check_int8(model)
    state, recording = _state(model), Recording()
    if model.int8_checked is None or model.int8_checked[0] != state:
        rows = sorted(model.tokenize(PROBE), key=len, reverse=True)
        with torch.inference_mode():
            with int8_products(recording):
                exact = model(rows=rows)
            if not bool(torch.isfinite(exact).all()):
                raise ModelError("the model's vectors are not finite: its weights are broken; fetch the model again")
            with int8_products(recording.ranges):
                rounded = model(rows=rows)
        lowest = min(_lowest_cosine(exact[:, :dim], rounded[:, :dim]) for dim in model.dims)
        if lowest < LOWEST_INT8_COSINE:
            raise ModelError(
                f"int8 moves this model's vectors to a cosine of {lowest:.3f} (at least {LOWEST_INT8_COSINE} is asked "
                "for); use float32 or the default"
            )
        model.int8_checked = (state, recording.ranges)
    return model.int8_checked[1]


def _keeps_vectors(model: Gecko) -> bool:
    """Compare both computations on the probe, once for each state of the weights."""
    state = _state(model)
    if model.bf16_checked is None or model.bf16_checked[0] != state:
        rows = sorted(model.tokenize(PROBE), key=len, reverse=True)
        with _evaluating(model):
            exact = model(rows=rows).float()
            with torch.autocast(model.device.type, dtype=torch.bfloat16):
                rounded = model(rows=rows).float()
        lowest = min(_lowest_cosine(exact[:, :dim], rounded[:, :dim]) for dim in model.dims)
        model.bf16_checked = (state, lowest >= LOWEST_COSINE)
    return model.bf16_checked[1]


def _state(model: Gecko) -> Any:
    return model.device, model.max_seq_length, weights_state(model)


@contextmanager
def _evaluating(model: Gecko) -> Iterator[None]:
    """Without dropout: what is measured on the probe is a property of the weights."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _lowest_cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nan_to_num(cosine_similarity(a, b, dim=-1), nan=-1.0).min())
