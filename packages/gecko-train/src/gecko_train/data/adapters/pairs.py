"""Queries with passages: sentence-transformers triplets, FlagEmbedding, tevatron, MIRACL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    POSITIVE_FIELDS,
    QUERY_FIELDS,
    Adapter,
    Settings,
    documents_of,
    first_of,
    text_of,
)
from gecko_train.data.rows import TrainingRow


def pair_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Read pairs with any number of negatives; several positives give several rows.

    Columns: ``query`` (or anchor, question, claim), ``positive`` (or pos, answer, document, positive_passages) and
    optionally ``negative``, ``negative_1`` ..., ``neg`` or ``negative_passages``; documents are texts or objects with
    ``title`` and ``text``. A query without a positive, as MIRACL holds some, gives no row.
    """
    for record in records:
        query = text_of(record, QUERY_FIELDS)
        positives = documents_of(first_of(record, POSITIVE_FIELDS), record)
        negatives = tuple(
            document
            for key in sorted(key for key in record.fields if key.startswith("neg"))
            if not key.endswith("_scores")
            for document in documents_of(record.fields[key], record)
        )
        for positive in positives:
            yield TrainingRow(settings.task, query, positive, negatives, settings.symmetric)


PAIRS = Adapter(pair_rows)
MIRACL = Adapter(pair_rows, "question answering")
