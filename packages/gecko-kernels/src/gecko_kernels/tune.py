"""``python -m gecko_kernels.tune``, see :mod:`gecko_kernels.triton.tune`."""

from __future__ import annotations

import sys

from gecko_kernels.triton.tune import main

if __name__ == "__main__":
    sys.exit(main())
