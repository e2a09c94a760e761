"""What an adapter is, and how adapters read fields of a record.

An adapter is a function from records to rows with the defaults of the paper (task string, format). Hub layouts and
plain JSON lines are both accepted. Columns are known by their exact names, and what is ambiguous is refused: a row with
the wrong positive trains as smoothly as a right one.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record, listed
from gecko_train.data.rows import Document, TrainingRow

QUERY_FIELDS = ("query", "anchor", "question", "claim", "sentence1", "input")
POSITIVE_FIELDS = (
    "positive", "pos", "positive_ctxs", "answer", "document", "passage", "positive_passages", "text", "sentence2",
    "context",
)  # fmt: skip
#: Of these, what somebody has chosen as the positive, whatever is said of an answer.
_CHOSEN = ("positive", "pos", "positive_ctxs", "positive_passages")
_ARRAY = re.compile(r"\barray\(")
NEGATIVE_FIELDS = (
    "negative", "negatives", "neg", "negs", "hard_negative", "hard_negatives", "negative_passage", "negative_passages",
    "negative_document", "negative_documents", "negative_text", "negative_texts", "hard_negative_ctxs", "negative_ctxs",
)  # fmt: skip
_NUMBERED_NEGATIVE = re.compile(r"(?:hard_)?neg(?:ative)?_?(\d{1,9})")
#: Columns that say whether the pair of a record belongs together, however their names are capitalised: 0 or 1, or a
#: list of these where the documents are a list.
LABEL_FIELDS = (
    "label", "labels", "gold_label", "is_duplicate", "is_relevant", "is_selected", "is_match", "is_positive",
    "is_correct", "relevance", "relevant", "rel", "relevance_label", "entailment_judgment",
)  # fmt: skip
#: Columns that say how much it does, on a scale of their own.
SCORE_FIELDS = ("score", "similarity", "similarity_score", "relatedness_score", "relevance_score")
#: Columns of the options that an answer may name by its letter or number.
OPTION_FIELDS = ("options", "choices", "endings", "A", "a")
#: Columns that say whether the passage answers the question, and which value means that it does not.
_UNANSWERABLE = {
    "is_impossible": True, "unanswerable": True, "has_answer": False, "is_answerable": False, "answerable": False,
}  # fmt: skip
#: What QuAC has in the place of an answer.
_NO_ANSWER = "CANNOTANSWER"
_YES, _NO = ("1", "true"), ("0", "false")
#: What sources of pairs read, beside negatives with a number.
PAIR_COLUMNS = frozenset(
    (*QUERY_FIELDS, *POSITIVE_FIELDS, *NEGATIVE_FIELDS, *LABEL_FIELDS, *SCORE_FIELDS, *OPTION_FIELDS, *_UNANSWERABLE,
     "answers")
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a recipe says about a set, with the adapter's defaults filled in.

    Attributes:
        negatives: hard negatives to draw per row, where the adapter draws them.
        unique_ids: whether an id of its own is appended to the texts of each row (classification).
        min_score: the label or score from which on a pair is a positive; None: labels are 0 and 1.
        count_from: the number of the first option in answers that are numbers; None: it shows in the data.
    """

    task: str
    symmetric: bool
    seed: int = 0
    negatives: int = 1
    unique_ids: bool = False
    min_score: float | None = None
    count_from: int | None = None


@dataclass(frozen=True)
class Adapter:
    """How records of one schema become rows.

    Attributes:
        read: the function.
        task: the task string unless the recipe gives another.
        symmetric: whether documents too are written in the query format, unless the recipe says otherwise.
        whole: whether it looks at all records before it gives the first row.
        reads: which of the settings ``min_score`` and ``count_from`` it reads.
        columns: the columns that it knows, which a set's options may rename others to; empty: not said.
    """

    read: Callable[[Iterable[Record], Settings], Iterator[TrainingRow]]
    task: str = "search result"
    symmetric: bool = False
    whole: bool = False
    reads: frozenset[str] = frozenset()
    columns: frozenset[str] = frozenset()

    def knows(self, column: str) -> bool:
        """Whether it reads a column of this name; of adapters that do not say what they read, True."""
        if not self.columns or column in self.columns:
            return True
        return self.columns >= PAIR_COLUMNS and _NUMBERED_NEGATIVE.fullmatch(column) is not None

    def misspelt(self, columns: Collection[str]) -> tuple[str, str] | None:
        """The first of a record's columns that differs from one it reads in case or white space alone, and that one.

        Such a column would be passed over. Labels and scores of pairs are read in any case.
        """
        if not self.columns:
            return None
        in_any_case = {*LABEL_FIELDS, *SCORE_FIELDS} if self.columns >= PAIR_COLUMNS else set()
        for column in columns:
            meant = column.strip().lower()
            if meant in columns or self.knows(column) or column.lower() in in_any_case:
                continue
            if self.knows(meant):
                return column, meant
        return None


class RenamedFields(dict[str, Any]):
    """The fields of a record under the names that adapters know; what the file calls them is kept for messages.

    Args:
        fields: under the file's names.
        names: an adapter's name to the file's, as a set's options say (``columns``).
    """

    def __init__(self, fields: Mapping[str, Any], names: Mapping[str, str]):
        old_names = set(names.values())
        super().__init__({key: value for key, value in fields.items() if key not in old_names})
        self.update({new: fields.get(old) for new, old in names.items()})
        self.names = names
        self.columns = list(fields)


def required(record: Record, key: str) -> Any:
    """The value of a field.

    Raises:
        DataError: there is none.
    """
    fields = record.fields
    value = fields.get(key)
    if value is not None:
        return value
    if isinstance(fields, RenamedFields) and key in fields.names:
        old, columns = fields.names[key], listed(fields.columns)
        what = "no value in the column" if old in fields.columns else "no column"
        raise DataError(
            f"{record.where}: {what} {old!r}, which the set's options name as {key!r} (columns: {columns}); correct "
            "the options or the row"
        )
    columns = listed(fields.columns if isinstance(fields, RenamedFields) else fields)
    raise DataError(f"{record.where}: no {key!r} (columns: {columns}); rename the column or choose another source")


def first_of(record: Record, keys: tuple[str, ...]) -> Any:
    """The value of the first of some fields that has one.

    Raises:
        DataError: none has.
    """
    return required(record, _key_of(record, keys))


def text_of(record: Record, keys: tuple[str, ...]) -> str:
    """The text in the first of some fields that has a value.

    Raises:
        DataError: none has, or it is empty or not a text.
    """
    key = _key_of(record, keys)
    value = required(record, key)
    if not isinstance(value, str) or not value.strip():
        what = "empty" if isinstance(value, str) else f"{type(value).__name__}, not a text"
        raise DataError(f"{record.where}: {name_of(record, key)} is {what}; remove the row or fill it")
    check_no_object(value, record)
    return value


def name_of(record: Record, key: str) -> str:
    """What a message calls a field: its name in the file, in quotes."""
    names = record.fields.names if isinstance(record.fields, RenamedFields) else {}
    return repr(names.get(key, key))


def _key_of(record: Record, keys: tuple[str, ...]) -> str:
    """The first of some fields that has a value; of those that the set's options name, where they name one."""
    asked = keys_of(record, keys)
    return next((key for key in asked if record.fields.get(key) not in (None, "")), asked[0])


def keys_of(record: Record, keys: tuple[str, ...]) -> tuple[str, ...]:
    """Of some fields those that the set's options name; all, where they name none of them."""
    named = record.fields.names if isinstance(record.fields, RenamedFields) else {}
    return tuple(key for key in keys if key in named) or keys


def documents_of(value: Any, record: Record) -> list[Document]:
    """The documents in a field: a text, an object with title and text, or a list of these; empty texts are left out.

    Raises:
        DataError: something else, such as a number or a list within a list.
    """
    elements = value if isinstance(value, list | tuple) else [value]
    documents = (_document_of(element, record) for element in elements if element is not None)
    return [document for document in documents if document is not None]


def _document_of(value: Any, record: Record) -> Document | None:
    if isinstance(value, dict):
        inner = record._replace(fields=value)
        return Document(text_of(inner, ("text",)), inner.optional_text("title"))
    if not isinstance(value, str):
        raise DataError(f"{record.where}: a document is a {type(value).__name__}; expected a text or title and text")
    check_no_object(value, record)
    return Document(value) if value.strip() else None


def negatives_of(record: Record) -> tuple[Document, ...]:
    """The documents in the fields of ``NEGATIVE_FIELDS``, then those of ``negative_1``, ``negative_2``, ... by number.

    Other fields whose names begin alike (``neg_id``, ``negative_title``, ``negative_score``) hold no documents.
    """
    numbered = []
    for key in record.fields:
        if match := _NUMBERED_NEGATIVE.fullmatch(key):
            numbered.append((int(match[1]), key))
    keys = [*(key for key in NEGATIVE_FIELDS if key in record.fields), *(key for _, key in sorted(numbered))]
    return tuple(document for key in keys for document in documents_of(record.fields[key], record))


def check_no_object(text: str, record: Record) -> None:
    """Check that a text is none of Python's lists or dicts, which programs that write CSV make of them.

    Raises:
        DataError: it is.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return
    kind = "object" if _ARRAY.search(text) else None  # as pandas writes numpy's
    for read in (ast.literal_eval, json.loads):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            kind = kind or type(read(text)).__name__
    if kind is not None:
        raise DataError(f"{record.where}: a {kind} written as text ({text[:40]!r}); save it as JSON lines")


def positive_documents(record: Record) -> list[Document]:
    """The documents of the first of ``POSITIVE_FIELDS`` that has a value.

    Raises:
        DataError: none has; or its value is no document, or names an option of the record.
    """
    key = _key_of(record, POSITIVE_FIELDS)
    value = required(record, key)
    option = next((name for name in OPTION_FIELDS if record.fields.get(name) not in (None, "")), None)
    if key == "answer" and option and isinstance(value, str) and len(value.strip()) <= 1:
        raise DataError(
            f"{record.where}: {name_of(record, key)} is {value!r}, one of the options in {name_of(record, option)} and "
            "no text; write the option itself there"
        )
    return documents_of(value, record)


def is_unanswerable(record: Record) -> bool:
    """Whether the record says that its passage does not answer its question, as SQuAD 2.0, QuAC and others do.

    Raises:
        DataError: the answers are an object that was written as text.
    """
    if any(flag_of(record, key) is value for key, value in _UNANSWERABLE.items()):
        return True
    if any(record.fields.get(key) for key in _CHOSEN):  # DPR's layout of MS MARCO has empty `answers` beside them
        return False
    answers: Any = record.fields.get("answers", record.fields.get("answer"))
    if isinstance(answers, str) and "answers" in record.fields:
        check_no_object(answers, record)
        return answers.strip() in ("", _NO_ANSWER)
    if isinstance(answers, dict) and "text" in answers:
        answers = answers["text"]
    if not isinstance(answers, list):
        return False
    texts = [answer.get("text", answer) if isinstance(answer, dict) else answer for answer in answers]
    return all(text in (None, "", _NO_ANSWER) or text == [] for text in texts)


def label_of(record: Record, settings: Settings) -> str | None:
    """The field that labels or scores the record's pair: that of the set's options, or the first with a value.

    Raises:
        DataError: with ``min_score``, there are a label and a score, and the set's options name neither.
    """
    named = {key.lower(): key for key in reversed(record.fields)}
    labels, scores = (
        [named[name] for name in names if name in named and record.fields.get(named[name]) is not None]
        for names in (LABEL_FIELDS, SCORE_FIELDS)
    )
    asked = record.fields.names if isinstance(record.fields, RenamedFields) else {}
    chosen = [key for key in asked if key.lower() in LABEL_FIELDS or key.lower() in SCORE_FIELDS]
    if len(chosen) == 1:
        required(record, chosen[0])
        return chosen[0]
    if settings.min_score is not None and labels and scores:
        chosen = [key for key in (*labels, *scores) if key in asked]
        if len(chosen) != 1:
            raise DataError(
                f"{record.where}: {name_of(record, labels[0])} and {name_of(record, scores[0])} both have a value, and "
                "min_score is for one of them; name it in the set's options "
                f"(columns: {{{scores[0]}: {scores[0]}}}), or leave the other column out"
            )
        return chosen[0]
    return next(iter([*labels, *scores]), None)


def is_positive(record: Record, settings: Settings) -> bool | None:
    """Whether the record's own label or score says that its pair belongs together; None where it has neither.

    Raises:
        DataError: a label other than 0 and 1, or a score, without ``min_score``; or no number where there is one.
    """
    key = label_of(record, settings)
    if key is None:
        named = {name.lower(): name for name in reversed(record.fields)}
        empty = next((named[name] for name in (*LABEL_FIELDS, *SCORE_FIELDS) if name in named), None)
        if empty is not None and (settings.min_score is not None or empty.lower() in LABEL_FIELDS):
            raise DataError(
                f"{record.where}: {name_of(record, empty)} is empty, so whether the pair is a positive is not known; "
                "fill it in or leave the row out"
            )
        if settings.min_score is not None:
            columns = listed(record.fields.columns if isinstance(record.fields, RenamedFields) else record.fields)
            raise DataError(
                f"{record.where}: no label or score for min_score (columns: {columns}); name its column in the set's "
                "options (columns: {score: NAME}), or leave min_score out"
            )
        return None
    value = record.fields[key]
    if settings.min_score is not None:
        return number_of(record, key) >= settings.min_score
    found = flag_of(record, key) if key.lower() in LABEL_FIELDS else None
    if found is None:
        raise DataError(
            f"{record.where}: {name_of(record, key)} is {repr(value)[:40]}, and not every pair is a positive; say from "
            "which value on it is (options: {min_score: ...}), or take other columns (options: {columns: ...})"
        )
    return found


def judged(records: Iterable[Record], settings: Settings) -> Iterator[tuple[bool | None, Record]]:
    """Each record with what :func:`is_positive` says of it: of all records, or of none.

    Raises:
        DataError: some records have a label and some have none.
    """
    first: tuple[bool, str] | None = None
    for record in records:
        found = is_positive(record, settings)
        first = first or (found is not None, record.where)
        if first[0] != (found is not None):
            which = "no label or score" if found is None else "a label or score"
            raise DataError(
                f"{record.where}: the row has {which}, unlike {first[1]}, so whether the pair of each is a positive is "
                "not known; label all rows or none"
            )
        yield found, record


def flag_of(record: Record, key: str) -> bool | None:
    """What a field says that holds 0 or 1, true or false, also as text; None where it says neither."""
    value = record.fields.get(key)
    if isinstance(value, str):
        return True if value.strip().lower() in _YES else False if value.strip().lower() in _NO else None
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def number_of(record: Record, key: str) -> float:
    """The number in a field, which may be written as text (CSV).

    Raises:
        DataError: it is none.
    """
    value = record.fields.get(key)
    with suppress(ValueError, OverflowError):
        if isinstance(value, str | int | float) and "_" not in str(value) and math.isfinite(float(value)):
            return float(value)
    raise DataError(f"{record.where}: {name_of(record, key)} is {repr(value)[:40]}; expected a number")
