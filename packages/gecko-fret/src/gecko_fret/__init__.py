"""FRet: retrieval training data written, retrieved, relabelled and mined by an LLM, every score kept.

``gecko-fret`` and ``python -m gecko_fret`` build a data set, as does ``build_fret``; ``load_fret`` reads one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_fret._core import lazy_exports

if TYPE_CHECKING:
    from gecko_fret.build.needs import check_fret
    from gecko_fret.build.pipeline import build_fret
    from gecko_fret.build.summary import FretSummary
    from gecko_fret.config import FretConfig, load_config
    from gecko_fret.corpus import Corpus, Passage, load_corpus
    from gecko_fret.dataset import Candidate, FretData, FretRow, load_fret

__all__ = [
    "Candidate",
    "Corpus",
    "FretConfig",
    "FretData",
    "FretRow",
    "FretSummary",
    "Passage",
    "build_fret",
    "check_fret",
    "load_config",
    "load_corpus",
    "load_fret",
]
__version__ = "1.0.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Candidate": "gecko_fret.dataset",
        "Corpus": "gecko_fret.corpus",
        "FretConfig": "gecko_fret.config",
        "FretData": "gecko_fret.dataset",
        "FretRow": "gecko_fret.dataset",
        "FretSummary": "gecko_fret.build.summary",
        "Passage": "gecko_fret.corpus",
        "build_fret": "gecko_fret.build.pipeline",
        "check_fret": "gecko_fret.build.needs",
        "load_config": "gecko_fret.config",
        "load_corpus": "gecko_fret.corpus",
        "load_fret": "gecko_fret.dataset",
    },
)
