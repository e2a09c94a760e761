"""MedMCQA: medical multiple choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, documents_of, text_of
from gecko_train.data.rows import Document, TrainingRow

_NUMBER = re.compile(r"-?[0-9]{1,8}")
_LETTERS = ("opa", "opb", "opc", "opd")


def medmcqa_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """The right option is the positive, the wrong ones are hard negatives; questions without an answer are left out.

    The number of the right option (``cop``, or ``answer_index`` beside ``options``) counts from 0 on the hub and from 1
    in the authors' files. Which it is shows where the first or the last option is right anywhere in the set.

    Raises:
        DataError: the numbers fit neither or both, or a field is not what it should be.
    """
    answered = [read for read in map(_read, records) if read is not None]
    first = settings.count_from
    if first is None:
        first = _count_from(answered)
    for record, options, number in answered:
        if not first <= number < first + len(options):
            raise DataError(
                f"{record.where}: the right option is number {number} of {len(options)}, counted from {first}; "
                "correct the row, or say from where numbers count (options: {count_from: 0 or 1})"
            )
        others = [*options]
        positive = others.pop(number - first)
        yield TrainingRow(settings.task, text_of(record, ("question",)), positive, tuple(others), settings.symmetric)


_Answered = tuple[Record, list[Document], int]


def _read(record: Record) -> _Answered | None:
    """A record, its options and the number of the right one; None where no answer is known or an option is empty."""
    fields = record.fields
    key = "answer_index" if "options" in fields else "cop"
    options: Any = fields["options"] if "options" in fields else [fields.get(letter) for letter in _LETTERS]
    if "options" not in fields and not any(letter in fields for letter in _LETTERS):
        columns = ", ".join(_LETTERS)
        raise DataError(f"{record.where}: no {columns} and no options; name them in the set's options (columns)")
    if not isinstance(options, list):
        raise DataError(f"{record.where}: 'options' is a {type(options).__name__}; expected a list of texts")
    number = _whole(record, key)
    documents = documents_of(options, record)
    if number is None or number == -1 or len(documents) < len(options):  # -1: the public test split
        return None
    return record, documents, number


def _whole(record: Record, key: str) -> int | None:
    value = record.fields.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return int(value)
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise DataError(f"{record.where}: {key!r} is {repr(value)[:40]}; expected the number of the right option")


def _count_from(answered: list[_Answered]) -> int:
    zero = next((record for record, _, number in answered if number == 0), None)
    last = next((record for record, options, number in answered if number == len(options)), None)
    if zero is not None and last is not None:
        raise DataError(
            f"{last.where}: the right option is the last counted from 1, in {zero.where} the first counted from 0; "
            "make all rows count alike"
        )
    if answered and zero is None and last is None:
        raise DataError(
            f"{answered[0][0].where}: whether the numbers of right options count from 0 (the hub) or from 1 (the "
            "authors' files) does not show in these rows; say it (options: {count_from: 0 or 1})"
        )
    return 0 if last is None else 1


MEDMCQA = Adapter(
    medmcqa_rows,
    "question answering",
    whole=True,
    reads=frozenset({"count_from"}),
    columns=frozenset({"question", "options", "answer_index", "cop", *_LETTERS}),
)
