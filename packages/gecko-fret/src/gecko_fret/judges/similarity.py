"""The retriever's own opinion: the cosine by which the candidate was found."""

from __future__ import annotations

from collections.abc import Sequence

from gecko_fret.judges.base import Batch, Judge


class Similarity(Judge):
    """Cosine of query and passage by the build's embedder, known from retrieval."""

    name = "similarity"

    def judge(self, batch: Batch) -> Sequence[float]:
        """The similarity of every pair."""
        return [pair.similarity for pair in batch.pairs]
