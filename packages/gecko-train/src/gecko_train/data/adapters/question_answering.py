"""Questions with the passage that answers them: SQuAD, MLQA, BoolQ, PubMedQA, BioASQ, WikiQA, Natural Questions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    PAIR_COLUMNS,
    QUERY_FIELDS,
    Adapter,
    Settings,
    documents_of,
    is_unanswerable,
    judged,
    keys_of,
    negatives_of,
    positive_documents,
    text_of,
)
from gecko_train.data.adapters.pairs import pair_rows
from gecko_train.data.rows import Document, TrainingRow, without_passages

_PASSAGES = ("context", "passage", "snippets", "contexts", "answer")


def question_answering_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """The positive is ``context`` (or passage), each of ``snippets``, ``contexts`` (joined) or else ``answer``.

    Negatives are those of :func:`~gecko_train.data.adapters.base.negatives_of`.

    Left out are pairs labelled 0, as WikiQA lists wrong answers, and questions that their passage does not answer, as
    SQuAD 2.0 marks them (``is_impossible``, or empty ``answers``).

    Records that name their positives are read as pairs (:func:`~gecko_train.data.adapters.pairs.pair_rows`).

    Raises:
        DataError: a record has no passage, or one that is neither text nor an object with ``text``; some records have
            a label and some have none.
    """
    for names_positives, group in itertools.groupby(records, _names_positives):
        if names_positives:
            yield from pair_rows(group, settings)
            continue
        answered = (record for record in group if not is_unanswerable(record))
        for positive, record in judged(answered, settings):
            question = text_of(record, QUERY_FIELDS)
            if positive is False:
                continue
            title, wrong = record.optional_text("title"), negatives_of(record)
            passages = [replace(passage, title=passage.title or title) for passage in _passages(record)]
            negatives = without_passages(wrong, passages)
            for passage in passages:
                yield TrainingRow(settings.task, question, passage, negatives, settings.symmetric)


def _names_positives(record: Record) -> bool:
    named = [record.fields.get(key) for key in ("positive_passages", "positive", "positive_ctxs")]
    return any(named) or ([] in named and not any(record.fields.get(key) for key in keys_of(record, _PASSAGES)))


def _passages(record: Record) -> list[Document]:
    fields = record.fields
    key = next((key for key in keys_of(record, _PASSAGES) if fields.get(key) not in (None, "", [], {})), None)
    value: Any = fields[key] if key else None
    if isinstance(value, dict) and isinstance(value.get("contexts"), list):  # PubMedQA on the hub
        value = value["contexts"]
    elif key == "contexts" and isinstance(value, list) and all(isinstance(text, str) for text in value):
        value = " ".join(value)  # the parts of one abstract
    elif key == "answer" and isinstance(value, list):
        value = value[:1]
    elif key == "answer":
        return positive_documents(record)
    documents = documents_of(value, record)
    if not documents:
        raise DataError(f"{record.where}: no {', '.join(_PASSAGES)}; add a column with the passage")
    return documents


QUESTION_ANSWERING = Adapter(
    question_answering_rows,
    "question answering",
    reads=frozenset({"min_score"}),
    columns=PAIR_COLUMNS.union(_PASSAGES, {"title"}),
)
