"""Queries with passages: sentence-transformers triplets and labelled pairs, FlagEmbedding, tevatron, MIRACL."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    LABEL_FIELDS,
    PAIR_COLUMNS,
    POSITIVE_FIELDS,
    QUERY_FIELDS,
    SCORE_FIELDS,
    Adapter,
    Settings,
    first_of,
    is_positive,
    is_unanswerable,
    judged,
    label_of,
    name_of,
    negatives_of,
    positive_documents,
    text_of,
)
from gecko_train.data.rows import TrainingRow, without_passages


def pair_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Read pairs with any number of negatives; several positives give several rows.

    Columns: ``query`` (or anchor, question, claim, sentence1, input), ``positive`` (or pos, answer, document, passage,
    positive_passages, text, sentence2, context), the first that has a value, and the negatives of
    :func:`~gecko_train.data.adapters.base.negatives_of`; documents are texts or objects with ``title`` and ``text``. A
    query without a positive, as MIRACL holds some, gives no row.

    Questions that their passage does not answer are left out (``is_impossible``, empty ``answers``). Where the
    documents are a list and so is the label, it says of each whether it is a positive or a negative.

    A record may label its pair (``label``, ``is_duplicate``, ...: 0 or 1; with ``min_score`` any number): a pair
    labelled 0 is no positive, but its passage is a negative of the same query's positives in the records next to it.

    A positive of the record, or of the labelled records next to it, is none of their negatives.
    """
    answered = (one for record in records if not is_unanswerable(record) for one in _one_by_one(record, settings))
    for (labelled, _), group in itertools.groupby(
        ((found, text_of(record, QUERY_FIELDS), record) for found, record in judged(answered, settings)), _same_query
    ):
        if not labelled:
            for _, query, record in group:
                positives = positive_documents(record)
                negatives = without_passages(negatives_of(record), positives)
                for document in positives:
                    yield TrainingRow(settings.task, query, document, negatives, settings.symmetric)
            continue
        read = [(positive, query, record, positive_documents(record)) for positive, query, record in group]
        wrong = [document for positive, _, _, documents in read if not positive for document in documents]
        right = [document for positive, _, _, documents in read if positive for document in documents]
        for positive, query, record, documents in read:
            if positive:
                negatives = without_passages((*negatives_of(record), *wrong), right)
                for document in documents:
                    yield TrainingRow(settings.task, query, document, negatives, settings.symmetric)


def _same_query(read: tuple[bool | None, str, Record]) -> tuple[bool, str]:
    return read[0] is not None, read[1]


def _one_by_one(record: Record, settings: Settings) -> Iterator[Record]:
    """The record, or where it has a label for each of its documents, one for each of them.

    Raises:
        DataError: there are not as many labels as documents.
    """
    key = label_of(record, settings)
    labels = record.fields[key] if key else None
    if key is None or not isinstance(labels, list) or not isinstance(first_of(record, POSITIVE_FIELDS), list):
        yield record
        return
    documents = positive_documents(record)
    if len(documents) != len(labels):
        raise DataError(
            f"{record.where}: {len(labels)} values in {name_of(record, key)} for {len(documents)} documents"
        )
    flags = [is_positive(record._replace(fields={key: label}), settings) for label in labels]
    if None in flags:
        raise DataError(
            f"{record.where}: value {flags.index(None) + 1} of {name_of(record, key)} is empty, so whether its "
            "document is a positive is not known; fill it in or leave the document out"
        )
    others = {*POSITIVE_FIELDS, *LABEL_FIELDS, *SCORE_FIELDS}
    fields = {name: value for name, value in record.fields.items() if name not in others and name.lower() not in others}
    for document, label in zip(documents, labels, strict=True):
        positive = {"title": document.title, "text": document.text}
        yield record._replace(fields=fields | {"positive": positive, key: label})


PAIRS = Adapter(pair_rows, reads=frozenset({"min_score"}), columns=PAIR_COLUMNS)
MIRACL = Adapter(pair_rows, "question answering", reads=frozenset({"min_score"}), columns=PAIR_COLUMNS)
