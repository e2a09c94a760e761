"""Source ``arrow``: a set that ``RowSet.write`` wrote, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_core.io import find_data
from gecko_train.config import SetConfig
from gecko_train.data.rows import RowSet, TrainingRow
from gecko_train.data.sources.base import NoOptions, Source, SourceContext


class Arrow(Source):
    """Rows as they were written; only those of a batch are read."""

    options = NoOptions
    has_scores = True
    not_streamed = "is memory-mapped already"

    def check(self, config: SetConfig) -> None:
        """See ``Source``."""
        super().check(config)
        RowSet.open(find_data(config.path or ""))

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``."""
        return iter(RowSet.open(find_data(config.path or "")))

    def load(self, config: SetConfig, context: SourceContext, name: str) -> RowSet:
        """See ``Source``."""
        rows = RowSet.open(find_data(config.path or ""), name)
        left = rows.without_queries(context.held_out)
        if context.apart is not None:
            others = left.without_texts(context.apart.texts)
            context.apart.rows = len(left) - len(others)
            left = others
        return left.first(config.limit)
