"""HotpotQA: multi-hop questions with the paragraphs that were shown beside them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow


def hotpotqa_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Each supporting paragraph is a positive; the other paragraphs shown are hard negatives.

    Raises:
        DataError: ``context`` or ``supporting_facts`` is laid out neither as on the hub nor as in the release, two
            paragraphs share a title, or a supporting title is that of none.
    """
    for record in records:
        question = text_of(record, ("question",))
        supporting = {_key(title): title for title, _ in _pairs(record, "supporting_facts", "sent_id")}
        documents: dict[str, Document] = {}
        for title, sentences in _pairs(record, "context", "sentences"):
            document = Document("".join(_sentences(record, sentences)).strip(), title)
            if documents.setdefault(_key(title), document) != document:
                raise DataError(
                    f"{record.where}: two paragraphs in 'context' have the title {title[:80]!r}, and supporting facts "
                    "are known by it; rename one or remove the row"
                )
        unknown = next((title for key, title in supporting.items() if key not in documents), None)
        if unknown is not None:
            raise DataError(
                f"{record.where}: no paragraph in 'context' has the title {unknown[:80]!r} of a supporting fact, so "
                "which paragraph is a positive is not known; write the title as in 'context' or remove the row"
            )
        negatives = tuple(document for key, document in documents.items() if key not in supporting and document.text)
        for key, document in documents.items():
            if key in supporting and document.text:
                yield TrainingRow(settings.task, question, document, negatives, settings.symmetric)


def _key(title: str) -> str:
    """A title as it is compared: in Unicode's NFC, its white space made single."""
    return " ".join(unicodedata.normalize("NFC", title).split())


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
