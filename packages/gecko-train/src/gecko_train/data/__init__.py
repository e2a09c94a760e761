"""Training data: rows, sources and adapters, the mixture, streams, blocks, a teacher's vectors, the held-out test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_core.lazy import lazy_exports

if TYPE_CHECKING:
    from gecko_train.data.adapters.base import Adapter
    from gecko_train.data.adapters.registry import ADAPTERS
    from gecko_train.data.blocks import BlockSet
    from gecko_train.data.holdout import HeldOut, hold_out
    from gecko_train.data.mixture import Mixture
    from gecko_train.data.rows import Document, RowSet, TrainingRow
    from gecko_train.data.sources.base import Source, SourceContext
    from gecko_train.data.sources.registry import SOURCES, load_set
    from gecko_train.data.streams import StreamedSet
    from gecko_train.data.teacher import TeacherVectors

__all__ = [
    "ADAPTERS",
    "SOURCES",
    "Adapter",
    "BlockSet",
    "Document",
    "HeldOut",
    "Mixture",
    "RowSet",
    "Source",
    "SourceContext",
    "StreamedSet",
    "TeacherVectors",
    "TrainingRow",
    "hold_out",
    "load_set",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ADAPTERS": "gecko_train.data.adapters.registry",
        "Adapter": "gecko_train.data.adapters.base",
        "BlockSet": "gecko_train.data.blocks",
        "Document": "gecko_train.data.rows",
        "HeldOut": "gecko_train.data.holdout",
        "Mixture": "gecko_train.data.mixture",
        "RowSet": "gecko_train.data.rows",
        "SOURCES": "gecko_train.data.sources.registry",
        "Source": "gecko_train.data.sources.base",
        "SourceContext": "gecko_train.data.sources.base",
        "StreamedSet": "gecko_train.data.streams",
        "TeacherVectors": "gecko_train.data.teacher",
        "TrainingRow": "gecko_train.data.rows",
        "hold_out": "gecko_train.data.holdout",
        "load_set": "gecko_train.data.sources.registry",
    },
)
