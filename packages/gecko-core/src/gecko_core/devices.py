"""Devices and the dtypes they compute in: the one place that decides, for encoding, training and language models."""

from __future__ import annotations

import platform

import torch

from gecko_core.errors import ConfigError

__all__ = ["as_dtype", "checked_device", "compute_dtype", "has_fast_bf16", "weights_dtype"]

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def checked_device(device: str | torch.device | None) -> torch.device:
    """Return the device with this name.

    Args:
        device: None is the first GPU, else Apple's, else the CPU.

    Returns:
        A device that this machine has.

    Raises:
        ConfigError: not a device, or not one of this machine's.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"{device!r} is not a device; use 'cpu', 'cuda:0' and the like") from None
    if checked.type == "cuda" and (checked.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"{device}: this machine has {torch.cuda.device_count()} CUDA devices")
    if checked.type not in ("cpu", "cuda") and not _is_there(checked.type):
        raise ConfigError(f"{device}: this machine has none")
    return checked


def _is_there(kind: str) -> bool:
    """Whether this machine has a device of a kind that is neither a CPU nor CUDA's."""
    if kind == "mps":
        return torch.backends.mps.is_available()
    try:
        return bool(torch.get_device_module(kind).is_available())
    except (RuntimeError, AttributeError):  # "meta", or a kind that PyTorch has no module for
        return False


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """Return fp32, bf16 or fp16 for a dtype or its name.

    Args:
        dtype: a dtype, its name ("bfloat16" or "bf16"), or None for fp32.

    Returns:
        One of the three dtypes.

    Raises:
        ConfigError: anything else.
    """
    chosen = torch.float32 if dtype is None else _DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in (torch.float32, torch.bfloat16, torch.float16):
        raise ConfigError(
            f"dtype must be float32, bfloat16 or float16 (for encoding with a saved model also int8), not {dtype!r}"
        )
    return chosen


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware, hence faster than fp32.

    PyTorch's own answers include emulation: ``torch.cuda.is_bf16_supported()`` is true on a T4, and oneDNN accepts bf16
    on every processor with AVX-512.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu" or not _onednn_takes_bf16():
        return False
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return True  # oneDNN on ARM asks for the instructions


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products in encoding and training: bf16 where the device is fast at it, else fp32."""
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def weights_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype to load a language model's weights in where the user leaves the choice to us.

    bf16 as published, except on CUDA devices before Ampere (fp16: they only emulate bf16) and on CPUs where oneDNN
    does not take bf16 (fp32).
    """
    if device.type == "cuda":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if _onednn_takes_bf16() else torch.float32
    return torch.bfloat16


def _onednn_takes_bf16() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
