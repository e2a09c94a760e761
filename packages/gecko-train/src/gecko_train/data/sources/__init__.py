"""Sources: where training rows come from; one file per kind."""

from __future__ import annotations

from gecko_train.data.sources.base import Source, SourceContext
from gecko_train.data.sources.registry import SOURCES, load_set

__all__ = ["SOURCES", "Source", "SourceContext", "load_set"]
