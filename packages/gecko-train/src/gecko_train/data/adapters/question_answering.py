"""Questions with the passage that answers them: SQuAD, MLQA, BoolQ, PubMedQA, BioASQ, WikiQA, Natural Questions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import QUERY_FIELDS, Adapter, Settings, text_of
from gecko_train.data.adapters.pairs import pair_rows
from gecko_train.data.rows import Document, TrainingRow


def question_answering_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """The positive is ``context``, ``contexts`` (joined), each of ``snippets``, or, without any, the ``answer``.

    Raises:
        DataError: a record has none of them.
    """
    for record in records:
        fields = record.fields
        question = text_of(record, QUERY_FIELDS)
        if fields.get("positive_passages") or fields.get("positive"):
            yield from pair_rows([record], settings)
            continue
        if fields.get("label") in (0, "0"):  # WikiQA and its like list wrong answers as rows of their own
            continue
        title = fields.get("title") or None
        for text in _passages(record):
            if str(text).strip():
                yield TrainingRow(settings.task, question, Document(str(text), title), (), settings.symmetric)


def _passages(record: Record) -> list[str]:
    fields = record.fields
    key = next((key for key in ("context", "snippets", "contexts", "answer") if fields.get(key)), None)
    value: Any = fields[key] if key else None
    passages = value.get("contexts") if isinstance(value, dict) else value  # PubMedQA on the hub: {"contexts": [...]}
    if not passages:
        raise DataError(f"{record.where}: no context, snippets or answer; add a column with the passage")
    if isinstance(passages, str):
        return [passages]
    if passages is value and key == "contexts" and isinstance(passages, list):
        return [" ".join(passages)]
    return passages[:1] if passages is value and key == "answer" else passages


QUESTION_ANSWERING = Adapter(question_answering_rows, "question answering")
