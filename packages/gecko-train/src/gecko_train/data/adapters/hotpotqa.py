"""HotpotQA: multi-hop questions with the paragraphs that were shown beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow


def hotpotqa_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Each supporting paragraph is a positive; the other paragraphs shown are hard negatives.

    Raises:
        DataError: ``context`` or ``supporting_facts`` is laid out neither as on the hub nor as in the release, or two
            paragraphs share a title.
    """
    for record in records:
        question = text_of(record, ("question",))
        supporting = {title for title, _ in _pairs(record, "supporting_facts", "sent_id")}
        documents: dict[str, Document] = {}
        for title, sentences in _pairs(record, "context", "sentences"):
            document = Document("".join(_sentences(record, sentences)).strip(), title)
            if documents.setdefault(title, document) != document:
                raise DataError(
                    f"{record.where}: two paragraphs in 'context' have the title {title[:80]!r}, and supporting facts "
                    "are known by it; rename one or remove the row"
                )
        negatives = tuple(
            document for title, document in documents.items() if title not in supporting and document.text
        )
        for title, document in documents.items():
            if title in supporting and document.text:
                yield TrainingRow(settings.task, question, document, negatives, settings.symmetric)


def _pairs(record: Record, key: str, second: str) -> list[tuple[str, Any]]:
    """(title, what belongs to it): the hub stores two columns, the original release lists of two."""
    value = required(record, key)
    if isinstance(value, dict):
        titles, others = value.get("title"), value.get(second)
        if isinstance(titles, list) and isinstance(others, list) and len(titles) == len(others):
            value = list(zip(titles, others, strict=True))
    if not isinstance(value, list) or not all(
        isinstance(pair, list | tuple) and len(pair) >= 2 and isinstance(pair[0], str) for pair in value
    ):
        raise DataError(f"{record.where}: {key!r} is not laid out as in HotpotQA: a list of [title, {second}]")
    return [(pair[0], pair[1]) for pair in value]


def _sentences(record: Record, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(sentence, str) for sentence in value):
        raise DataError(f"{record.where}: the sentences of a paragraph in 'context' are no list of texts")
    return value


HOTPOTQA = Adapter(hotpotqa_rows, columns=frozenset({"question", "context", "supporting_facts"}))
