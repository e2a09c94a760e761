"""Whether other packages draw progress bars."""

from __future__ import annotations

import os
import sys

_NO_BARS = ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")


def choose_bars() -> None:
    """Switch off the progress bars of other packages where stderr is no terminal; commands call it first of all.

    Loading weights, reading GGUF files and data sets would each leave a bar in the log, many times over. tqdm and the
    packages of Hugging Face read these variables when they are imported; processes started later inherit them. What the
    environment says already stays.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        for name in _NO_BARS:
            os.environ.setdefault(name, "1")
