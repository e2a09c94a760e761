"""The choice of implementation, by ``GECKO_KERNELS_BACKEND`` and device."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "torch", "triton")
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def _triton_is_installed() -> bool:
    try:
        return find_spec("triton") is not None
    except ImportError:
        return False


# Looked up once, and without importing it: torch.compile cannot trace the search (seen with PyTorch 2.6).
TRITON_IS_INSTALLED = _triton_is_installed()


def choose_backend(tensor: Tensor) -> str:
    """Choose the implementation for an input; "auto" is triton on CUDA for dtypes its kernels take, else torch.

    Returns:
        "reference", "torch" or "triton".

    Raises:
        ValueError: the variable holds an unknown name.
        RuntimeError: triton is asked for, but is not installed or cannot take the input.
    """
    asked = os.environ.get("GECKO_KERNELS_BACKEND", "auto")
    if asked not in BACKENDS:
        raise ValueError(f"GECKO_KERNELS_BACKEND: expected one of {', '.join(BACKENDS)}, found {asked!r}")
    if asked == "auto":
        return "triton" if tensor.is_cuda and tensor.dtype in TRITON_DTYPES and TRITON_IS_INSTALLED else "torch"
    if asked == "triton":
        if tensor.dtype not in TRITON_DTYPES or not TRITON_IS_INSTALLED:
            raise RuntimeError(
                f"GECKO_KERNELS_BACKEND=triton needs the triton package and float16, bfloat16 or float32 inputs, "
                f"found {tensor.dtype}; unset it to run in PyTorch"
            )
        if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise RuntimeError(
                f"GECKO_KERNELS_BACKEND=triton needs CUDA tensors, found {tensor.device}; unset it to run in PyTorch "
                "(or set TRITON_INTERPRET=1 before the first import to interpret the kernels)"
            )
    return asked
