"""What the optimizer is given: learning rates, parameter groups, the dtype of the forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from gecko_train.config import TrainerConfig


def learning_rate_factor(step: int, total: int, config: TrainerConfig) -> float:
    """Share of the peak learning rate at ``step`` (0-based): linear warm-up, then the schedule down to 0."""
    warm = round(config.warmup * total)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


def autocast_for(device: torch.device, precision: str) -> Callable[[], Any]:
    """Context factory for the forward pass: bf16 autocast, or nothing. Weights and optimizer stay in fp32."""
    return nullcontext if resolved_precision(device, precision) == "fp32" else _bf16(device.type)


def resolved_precision(device: torch.device, precision: str) -> str:
    """``auto`` is bf16 where the device computes in it."""
    if precision != "auto":
        return precision
    return "bf16" if _computes_in_bf16(device) else "fp32"


def _bf16(device_type: str) -> Callable[[], Any]:
    return lambda: torch.autocast(device_type, dtype=torch.bfloat16)


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(supported and supported())
    return False


def make_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """AdamW, fused: one kernel over all parameters. Matrices decay, vectors (biases, norms) do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The fused kernel takes no tensors cut over ranks on a CPU; there the plain one does.
    fused = config.parallel == "ddp" or trained[0].device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)
