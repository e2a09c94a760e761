"""When encoding may compute in bf16: the device is fast at it, and the vectors stay where they are."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gecko_core.devices import compute_dtype

if TYPE_CHECKING:
    from gecko_core.model import Gecko

LOWEST_COSINE = 0.9995
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


def probed_autocast(model: Gecko) -> torch.autocast | nullcontext[None]:
    """Return the autocast context of ``encode*``.

    Matrix products are in bf16 where ``model.auto_bf16`` allows it, the device is fast at them, and the embeddings of
    ``PROBE`` keep a cosine of at least ``LOWEST_COSINE`` to fp32's at every Matryoshka width.
    """
    wanted = model.auto_bf16 and model.dtype == torch.float32 and compute_dtype(model.device) == torch.bfloat16
    if not wanted or not _keeps_vectors(model):
        return nullcontext()
    return torch.autocast(model.device.type, dtype=torch.bfloat16)


def _keeps_vectors(model: Gecko) -> bool:
    """Compare both computations on the probe, once for each state of the weights."""
    # Every in-place change of a parameter, such as an optimizer's, increments its version.
    state = (model.device, sum(0 if p.is_inference() else p._version for p in model.parameters()), model.max_seq_length)
    if model.bf16_checked is None or model.bf16_checked[0] != state:
        rows = sorted(model.tokenize(PROBE), key=len, reverse=True)
        exact = model(rows=rows).float()
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            rounded = model(rows=rows).float()
        lowest = min(_lowest_cosine(exact[:, :dim], rounded[:, :dim]) for dim in model.dims)
        model.bf16_checked = (state, lowest >= LOWEST_COSINE)
    return model.bf16_checked[1]


def _lowest_cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nan_to_num(cosine_similarity(a, b, dim=-1), nan=-1.0).min())
