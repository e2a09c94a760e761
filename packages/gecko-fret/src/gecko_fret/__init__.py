"""FRet: retrieval training data written, retrieved, relabelled and mined by an LLM, every score kept.

`python -m gecko_fret` and the `gecko-fret` command build a data set; `load_fret` reads one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gecko_fret.dataset import Candidate, FretData, FretRow, load_fret

__all__ = ["Candidate", "FretData", "FretRow", "load_fret"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from gecko_fret import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
