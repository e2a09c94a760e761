"""Whether there is a terminal, and whether other packages draw progress bars."""

from __future__ import annotations

import os
import sys
from typing import IO

_NO_BARS = ("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")


def on_terminal(stream: IO[str] | None) -> bool:
    """Whether somebody watches a stream.

    Args:
        stream: such as ``sys.stderr``, which is None in a process that was started without one.
    """
    return stream is not None and not stream.closed and stream.isatty()


def choose_bars() -> None:
    """Switch off the progress bars of other packages where stderr is no terminal; commands call it first of all.

    Loading weights, reading GGUF files and data sets would each leave a bar in the log, many times over. tqdm and the
    packages of Hugging Face read these variables when they are imported; processes started later inherit them. What the
    environment says already stays.
    """
    if not on_terminal(sys.stderr):
        for name in _NO_BARS:
            os.environ.setdefault(name, "1")
