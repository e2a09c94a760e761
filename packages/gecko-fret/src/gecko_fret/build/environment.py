"""The versions and the device that the numbers of a build come from."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any


def environment() -> dict[str, Any]:
    """What the numbers were computed with."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "pyarrow": version("pyarrow"),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
