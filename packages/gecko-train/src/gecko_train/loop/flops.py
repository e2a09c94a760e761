"""Model FLOPs utilisation (MFU): floating-point work a step needs, over what the device could do in that time.

As in PaLM (Chowdhery et al. 2022, appendix B): 6 FLOPs per weight and token, plus attention's 12 x layers x width per
token and key; recomputation (gradient caching, checkpointing) does not count as work. LoRA still pays the whole forward
pass and the gradient with respect to activations: 4 per weight and token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from gecko_core import Gecko
from gecko_train.loop.frozen import transformer_layers

# Dense bf16 peaks of the makers' data sheets, in TFLOPS.
_RATED = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165}


def step_flops(
    model: Gecko,
    lengths: Sequence[int],
    frozen: bool = False,
    frozen_layers: int = 0,
    below: Sequence[int] | None = None,
) -> float:
    """FLOPs of one forward and backward pass.

    Args:
        model: the model.
        lengths: tokens of each text.
        frozen: the backbone's weights get no gradient (LoRA).
        frozen_layers: lowest layers that no gradient reaches; what is left of them is the forward pass.
        below: tokens of each text that passes through them; None: of all.
    """
    config: Any = model.backbone.config
    embedded = model.vocabulary * model.hidden_size  # looked up, not multiplied
    weights = max(1, sum(parameter.numel() for parameter in model.backbone.parameters()) - embedded)
    layers = getattr(config, "num_hidden_layers", None) or getattr(config, "num_layers", 0) or 0
    still = sum(p.numel() for layer in transformer_layers(model.backbone)[:frozen_layers] for p in layer.parameters())
    per_token, per_pair = (4 if frozen else 6) * (weights - still), 12 * (layers - frozen_layers) * model.hidden_size
    trained = sum(per_token * n + per_pair * n * n for n in lengths)
    passed = sum(
        2 * still * n + 4 * frozen_layers * model.hidden_size * n * n for n in (lengths if below is None else below)
    )
    return float(trained + passed)


def peak_flops(device: torch.device, dtype: torch.dtype, tflops: float | None = None) -> float:
    """FLOPs per second of the device: as given, as rated, or the best of a few large matrix products.

    Args:
        device: the device.
        dtype: of its matrix products.
        tflops: what the user says, in 10^12.
    """
    if tflops:
        return tflops * 1e12
    if device.type == "cuda" and dtype == torch.bfloat16:
        name = torch.cuda.get_device_name(device)
        rated = next((value for key, value in _RATED.items() if key in name), None)
        if rated:
            return rated * 1e12
    return _measured(device, dtype)


def _measured(device: torch.device, dtype: torch.dtype, width: int = 768) -> float:
    a = torch.ones(width, width, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - begun)
    return 2 * width**3 / best
