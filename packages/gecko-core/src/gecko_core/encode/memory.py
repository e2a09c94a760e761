"""Memory of activations, kept by the process instead of given back to the system after every layer."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

from gecko_core.encode.probe import compute_choice

# Numbers of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc accepts no more
#: Most freed memory, in bytes, that the process keeps.
KEPT = 256 * 2**20


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let glibc keep up to ``KEPT`` bytes of freed memory, for this process, from now on.

    By default it gives activations of some megabytes back to the system and takes them anew in every layer, and the
    system fills each page with zeros at its first use: a quarter of the time of encoding in fp32 (docs/log.md). What
    the environment says of malloc already stays; ``GECKO_COMPUTE=torch`` changes nothing.

    Returns:
        Whether it was done; not where the C library is another one.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if compute_choice() == "torch" or chosen or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, KEPT))
