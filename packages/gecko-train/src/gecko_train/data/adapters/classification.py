"""Classification sets: texts with labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_core.randomness import Stream, stream_generator
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow


def classification_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """(text, label): the positive is another text of the label, the negatives are texts of other labels.

    Rows of one label would be false negatives of each other. Either the loss masks them (``label``), or, as in the
    paper, an id that only this row has is appended to its texts, which makes other rows trivially different.

    Raises:
        DataError: all texts have one label.
    """
    texts, labels = [], []
    for record in records:
        texts.append(text_of(record, ("text", "sentence")))
        labels.append(_label(record))
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    codes = np.array([numbers[label] for label in labels])
    by_label = {label: np.flatnonzero(codes == number) for label, number in numbers.items()}
    if len(by_label) < 2:
        raise DataError(
            f"classification set with the one label {next(iter(by_label), None)!r}; at least two are needed"
        )
    generator = stream_generator(settings.seed, Stream.CLASSIFICATION)
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        same_label = by_label[label]
        if len(same_label) < 2:
            continue
        partner = same_label[generator.integers(len(same_label))]
        if partner == index:
            partner = same_label[(np.searchsorted(same_label, index) + 1) % len(same_label)]
        others = [_of_another(codes, index, generator) for _ in range(settings.negatives)]
        mark = f" [{settings.seed:x}-{index:x}]" if settings.unique_ids else ""
        yield TrainingRow(
            settings.task,
            text + mark,
            Document(texts[partner] + mark),
            tuple(Document(texts[other] + mark) for other in others),
            settings.symmetric,
            label=None if settings.unique_ids else label,
        )


def _of_another(codes: np.ndarray, index: int, generator: np.random.Generator) -> int:
    """A row of another class than row ``index``, every one as likely."""
    for _ in range(_DRAWS):
        candidate = int(generator.integers(len(codes)))
        if codes[candidate] != codes[index]:
            return candidate
    return int(generator.choice(np.flatnonzero(codes != codes[index])))  # where most rows are of one class


def _label(record: Record) -> str:
    """The class of a record as text.

    Raises:
        DataError: there is none, or a list (several classes) or a number with a fraction, which is no class.
    """
    value = record.fields.get("label_text")
    if value is None or value == "":
        value = required(record, "label")
    whole = isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())
    if not whole or value == "":
        raise DataError(
            f"{record.where}: the label is {repr(value)[:40]}; expected one class, a text or a whole number"
        )
    return str(int(value)) if isinstance(value, float) else str(value)


_DRAWS = 64  # before the rows of other classes are counted out
CLASSIFICATION = Adapter(
    classification_rows,
    "classification",
    symmetric=True,
    whole=True,
    columns=frozenset({"text", "sentence", "label", "label_text"}),
)
