"""What the optimizer is given: learning rates, parameter groups, the dtype of the forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from gecko_core.devices import compute_dtype
from gecko_train.config import TrainerConfig


def learning_rate_factor(step: int, total: int, config: TrainerConfig) -> float:
    """Share of the peak learning rate: linear warm-up, then the schedule down to 0.

    Args:
        step: optimizer steps before this one.
        total: optimizer steps of the stage.
        config: names the schedule and the share of the steps that warm up.
    """
    warm = round(config.warmup * total)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, total - warm)
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - progress if config.schedule == "linear" else 1.0


def forward_dtype(device: torch.device, precision: str) -> torch.dtype:
    """The dtype of the forward pass; weights and optimizer stay in fp32.

    Args:
        device: where training runs.
        precision: "fp32", "bf16", or "auto" for bf16 where the device is fast at it.
    """
    if precision == "auto":
        return compute_dtype(device)
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast_for(device: torch.device, dtype: torch.dtype) -> Callable[[], Any]:
    """Context factory for the forward pass: autocast, or nothing in fp32."""
    return nullcontext if dtype == torch.float32 else partial(torch.autocast, device.type, dtype=dtype)


def make_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    """AdamW, fused: one kernel over all parameters. Matrices decay, vectors (biases, norms) do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The fused kernel takes no sharded tensors on a CPU; there the plain one does.
    fused = config.parallel == "ddp" or trained[0].device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)
