"""Queries with passages: sentence-transformers triplets and labelled pairs, FlagEmbedding, tevatron, MIRACL."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    PAIR_COLUMNS,
    POSITIVE_FIELDS,
    QUERY_FIELDS,
    Adapter,
    Settings,
    first_of,
    is_positive,
    is_unanswerable,
    label_of,
    name_of,
    negatives_of,
    positive_documents,
    text_of,
)
from gecko_train.data.rows import Document, TrainingRow


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
    """
    answered = (_one_label(record, settings) for record in records if not is_unanswerable(record))
    for (labelled, _), group in itertools.groupby(
        ((is_positive(record, settings), text_of(record, QUERY_FIELDS), record) for record in answered), _same_query
    ):
        if not labelled:
            for _, query, record in group:
                yield from _rows(query, record, (), settings)
            continue
        judged = list(group)
        wrong = [document for positive, _, record in judged if not positive for document in positive_documents(record)]
        for positive, query, record in judged:
            if positive:
                yield from _rows(query, record, tuple(wrong), settings)


def _same_query(read: tuple[bool | None, str, Record]) -> tuple[bool, str]:
    return read[0] is not None, read[1]


def _one_label(record: Record, settings: Settings) -> Record:
    """The record, its documents parted into positives and negatives where it has a label for each of them.

    Raises:
        DataError: there are not as many labels as documents.
    """
    key = label_of(record)
    labels = record.fields[key] if key else None
    if key is None or not isinstance(labels, list) or not isinstance(first_of(record, POSITIVE_FIELDS), list):
        return record
    documents = positive_documents(record)
    if len(documents) != len(labels):
        raise DataError(
            f"{record.where}: {len(labels)} values in {name_of(record, key)} for {len(documents)} documents"
        )
    flags = [is_positive(record._replace(fields={key: label}), settings) for label in labels]
    fields = {name: value for name, value in record.fields.items() if name != key and name not in POSITIVE_FIELDS}
    parted: dict[bool | None, list[dict[str, str | None]]] = {True: [], False: []}
    for document, flag in zip(documents, flags, strict=True):
        parted[flag].append({"title": document.title, "text": document.text})
    before = fields.get("negatives")
    fields["positive"] = parted[True]
    fields["negatives"] = [*(before if isinstance(before, list) else [before]), *parted[False]]
    return record._replace(fields=fields)


def _rows(query: str, record: Record, wrong: tuple[Document, ...], settings: Settings) -> Iterator[TrainingRow]:
    negatives = (*negatives_of(record), *wrong)
    for positive in positive_documents(record):
        others = tuple(document for document in negatives if document != positive)
        yield TrainingRow(settings.task, query, positive, others, settings.symmetric)


PAIRS = Adapter(pair_rows, reads=frozenset({"min_score"}), columns=PAIR_COLUMNS)
MIRACL = Adapter(pair_rows, "question answering", reads=frozenset({"min_score"}), columns=PAIR_COLUMNS)
