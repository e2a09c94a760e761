"""Training data: rows, sources and adapters, the mixture, streams, the held-out test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.data.adapters.registry import ADAPTERS
    from gecko_train.data.mixture import Mixture
    from gecko_train.data.rows import Document, RowSet, TrainingRow
    from gecko_train.data.sources.base import Source, SourceContext
    from gecko_train.data.sources.registry import SOURCES, load_set
    from gecko_train.data.streams import StreamedSet

__all__ = [
    "ADAPTERS",
    "SOURCES",
    "Document",
    "Mixture",
    "RowSet",
    "Source",
    "SourceContext",
    "StreamedSet",
    "TrainingRow",
    "load_set",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ADAPTERS": "gecko_train.data.adapters.registry",
        "SOURCES": "gecko_train.data.sources.registry",
        "Document": "gecko_train.data.rows",
        "Mixture": "gecko_train.data.mixture",
        "RowSet": "gecko_train.data.rows",
        "Source": "gecko_train.data.sources.base",
        "SourceContext": "gecko_train.data.sources.base",
        "StreamedSet": "gecko_train.data.streams",
        "TrainingRow": "gecko_train.data.rows",
        "load_set": "gecko_train.data.sources.registry",
    },
)
