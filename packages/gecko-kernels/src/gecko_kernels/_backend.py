"""The choice of implementation, by ``GECKO_KERNELS_BACKEND`` and device."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

BACKENDS = ("auto", "reference", "torch", "triton")
TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


#: Before it, tuples among a kernel's constants cannot be read by index, and the kernels do not compile.
OLDEST_TRITON = (3, 4)


def _installed_triton() -> tuple[int, int] | None:
    """Major and minor version by the package's own file: distributions of it have several names."""
    try:
        spec = find_spec("triton")
        if spec is None or spec.origin is None:
            return None
        found = re.search(r"__version__ = ['\"](\d+)\.(\d+)", Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError):
        return None
    return (int(found[1]), int(found[2])) if found else OLDEST_TRITON


# Looked up once, and without importing it: torch.compile cannot trace the search (seen with PyTorch 2.6).
TRITON = _installed_triton()
TRITON_COMPILES = TRITON is not None and TRITON >= OLDEST_TRITON


def choose_backend(tensor: Tensor) -> str:
    """Choose the implementation for an input; "auto" is triton on CUDA for dtypes its kernels take, else torch.

    With a Triton before 3.4, which PyTorch 2.6 and 2.7 bring, "auto" is torch everywhere.

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
        return "triton" if tensor.is_cuda and tensor.dtype in TRITON_DTYPES and TRITON_COMPILES else "torch"
    if asked == "triton":
        if tensor.dtype not in TRITON_DTYPES or TRITON is None:
            raise RuntimeError(
                f"GECKO_KERNELS_BACKEND=triton needs the triton package and float16, bfloat16 or float32 inputs, "
                f"found {tensor.dtype}; unset it to run in PyTorch"
            )
        if not TRITON_COMPILES and os.environ.get("TRITON_INTERPRET") != "1":
            raise RuntimeError(
                f"GECKO_KERNELS_BACKEND=triton needs Triton 3.4 or newer (PyTorch 2.8 brings it), found "
                f"{'.'.join(map(str, TRITON))}; unset it to run in PyTorch"
            )
        if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise RuntimeError(
                f"GECKO_KERNELS_BACKEND=triton needs CUDA tensors, found {tensor.device}; unset it to run in PyTorch "
                "(or set TRITON_INTERPRET=1 before the first import to interpret the kernels)"
            )
    return asked
