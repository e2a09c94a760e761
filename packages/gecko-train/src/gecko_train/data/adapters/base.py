"""What an adapter is, and how adapters read fields of a record.

An adapter is a function from records to rows with the defaults of the paper (task string, format). Hub layouts and
plain JSON lines are both accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.rows import Document, TrainingRow

QUERY_FIELDS = ("query", "anchor", "question", "claim", "sentence1", "input")
POSITIVE_FIELDS = (
    "positive", "pos", "answer", "document", "passage", "positive_passages", "text", "sentence2", "context",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a recipe says about a set, with the adapter's defaults filled in.

    Attributes:
        negatives: hard negatives to draw per row, where the adapter draws them.
        unique_ids: whether an id of its own is appended to the texts of each row (classification).
    """

    task: str
    symmetric: bool
    seed: int = 0
    negatives: int = 1
    unique_ids: bool = False


@dataclass(frozen=True)
class Adapter:
    """How records of one schema become rows.

    Attributes:
        read: the function.
        task: the task string unless the recipe gives another.
        symmetric: whether documents too are written in the query format, unless the recipe says otherwise.
        whole: whether it looks at all records before it gives the first row.
    """

    read: Callable[[Iterable[Record], Settings], Iterator[TrainingRow]]
    task: str = "search result"
    symmetric: bool = False
    whole: bool = False


def required(record: Record, key: str) -> Any:
    """The value of a field.

    Raises:
        DataError: there is none.
    """
    value = record.fields.get(key)
    if value is None:
        columns = ", ".join(record.fields)
        raise DataError(f"{record.where}: no {key!r} (columns: {columns}); rename the column or choose another source")
    return value


def first_of(record: Record, keys: tuple[str, ...]) -> Any:
    """The value of the first of some fields that has one.

    Raises:
        DataError: none has.
    """
    for key in keys:
        if record.fields.get(key) is not None:
            return record.fields[key]
    return required(record, keys[0])


def text_of(record: Record, keys: tuple[str, ...]) -> str:
    """The text in the first of some fields that has a value.

    Raises:
        DataError: none has, or it is empty or not a text.
    """
    value = first_of(record, keys)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{record.where}: {keys[0]!r} is empty or not a text; remove the row or fill it")
    return value


def documents_of(value: Any, record: Record) -> list[Document]:
    """The documents in a field: a text, an object with title and text, or a list of these; empty texts are left out.

    Raises:
        DataError: something else.
    """
    if value is None:
        return []
    if isinstance(value, list | tuple | np.ndarray):
        return [document for element in value for document in documents_of(element, record)]
    if isinstance(value, dict):
        return [Document(text_of(record._replace(fields=value), ("text",)), value.get("title") or None)]
    if not isinstance(value, str):
        raise DataError(f"{record.where}: a document is a {type(value).__name__}; expected a text or title and text")
    return [Document(value)] if value.strip() else []
