"""Queries with passages: sentence-transformers triplets and labelled pairs, FlagEmbedding, tevatron, MIRACL."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    POSITIVE_FIELDS,
    QUERY_FIELDS,
    Adapter,
    Settings,
    documents_of,
    first_of,
    is_positive,
    negatives_of,
    text_of,
)
from gecko_train.data.rows import Document, TrainingRow


def pair_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Read pairs with any number of negatives; several positives give several rows.

    Columns: ``query`` (or anchor, question, claim, sentence1, input), ``positive`` (or pos, answer, document, passage,
    positive_passages, text, sentence2, context), the first that has a value, and the negatives of
    :func:`~gecko_train.data.adapters.base.negatives_of`; documents are texts or objects with ``title`` and ``text``. A
    query without a positive, as MIRACL holds some, gives no row.

    A record may label its pair (``label``, ``is_duplicate``, ...: 0 or 1; with ``min_score`` any number): a pair
    labelled 0 is no positive, but its passage is a negative of the same query's positives in the records next to it.
    """
    for (labelled, _), group in itertools.groupby(
        ((is_positive(record, settings), text_of(record, QUERY_FIELDS), record) for record in records), _same_query
    ):
        if not labelled:
            for _, query, record in group:
                yield from _rows(query, record, (), settings)
            continue
        judged = list(group)
        wrong = [
            document
            for positive, _, record in judged
            if not positive
            for document in documents_of(first_of(record, POSITIVE_FIELDS), record)
        ]
        for positive, query, record in judged:
            if positive:
                yield from _rows(query, record, tuple(wrong), settings)


def _same_query(read: tuple[bool | None, str, Record]) -> tuple[bool, str]:
    return read[0] is not None, read[1]


def _rows(query: str, record: Record, wrong: tuple[Document, ...], settings: Settings) -> Iterator[TrainingRow]:
    negatives = (*negatives_of(record), *wrong)
    for positive in documents_of(first_of(record, POSITIVE_FIELDS), record):
        others = tuple(document for document in negatives if document != positive)
        yield TrainingRow(settings.task, query, positive, others, settings.symmetric)


PAIRS = Adapter(pair_rows, reads=frozenset({"min_score"}))
MIRACL = Adapter(pair_rows, "question answering", reads=frozenset({"min_score"}))
