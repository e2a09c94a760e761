"""Classification sets: texts with labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_core.randomness import Stream, stream_generator
from gecko_core.text_identity import text_id
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow


def classification_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """(text, label): the positive is another text of the label, the negatives are texts of other labels.

    Rows of one label would be false negatives of each other. Either the loss masks them (``label``), or, as in the
    paper, an id that only this row has is appended to its texts, which makes other rows trivially different.

    A text may have several labels, in rows of their own: it is then a negative of none of these labels.

    Raises:
        DataError: all texts have one label, or ``label`` and ``label_text`` do not go together.
    """
    texts, labels, names = [], [], _Names()
    for record in records:
        texts.append(text_of(record, ("text", "sentence")))
        labels.append(names.read(record))
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    codes = np.array([numbers[label] for label in labels])
    if len(numbers) < 2:
        last = f"{record.where}, the last one: " if numbers else ""
        raise DataError(f"{last}classification set with the one label {next(iter(numbers), None)!r}; two are needed")
    classes = _Classes(texts, codes)
    generator = stream_generator(settings.seed, Stream.CLASSIFICATION)
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        partner = classes.partner(index, generator)
        if partner is None:
            continue
        others = classes.others(index, settings.negatives, generator)
        mark = f" [{settings.seed:x}-{index:x}]" if settings.unique_ids else ""
        yield TrainingRow(
            settings.task,
            text + mark,
            Document(texts[partner] + mark),
            tuple(Document(texts[other] + mark) for other in others),
            settings.symmetric,
            label=None if settings.unique_ids else label,
        )


class _Classes:
    """Draws rows of the same class and of other ones.

    Args:
        texts: of all rows.
        codes: (N,) the number of each row's class.
    """

    def __init__(self, texts: list[str], codes: np.ndarray):
        self._codes = codes
        self._ids = np.array([text_id(text) for text in texts], dtype=np.int64)
        self._rows = [np.flatnonzero(codes == number) for number in range(int(codes.max()) + 1)]
        classes: dict[int, set[int]] = defaultdict(set)
        for identifier, code in zip(self._ids.tolist(), codes.tolist(), strict=True):
            classes[identifier].add(code)
        self._several = {identifier: of_text for identifier, of_text in classes.items() if len(of_text) > 1}

    def partner(self, index: int, generator: np.random.Generator) -> int | None:
        """Another row of the class of row ``index``, with another text; None where there is none."""
        same = self._rows[self._codes[index]]
        if len(same) < 2:
            return None
        partner = int(same[generator.integers(len(same))])
        if self._ids[partner] != self._ids[index]:
            return partner
        following = np.roll(same, -int(np.searchsorted(same, index)) - 1)
        others = following[self._ids[following] != self._ids[index]]
        return int(others[0]) if len(others) else None

    def others(self, index: int, count: int, generator: np.random.Generator) -> list[int]:
        """``count`` rows of other classes than that of row ``index``, every one as likely; none where there is none."""
        found = (self._other(index, generator) for _ in range(count))
        return [row for row in found if row is not None]

    def _other(self, index: int, generator: np.random.Generator) -> int | None:
        for _ in range(_DRAWS):
            candidate = int(generator.integers(len(self._codes)))
            if self._is_other(candidate, index):
                return candidate
        # Where most rows are of one class.
        others = np.flatnonzero(self._codes != self._codes[index])
        if self._several:
            others = others[[self._is_other(candidate, index) for candidate in others.tolist()]]
        return int(generator.choice(others)) if len(others) else None

    def _is_other(self, candidate: int, index: int) -> bool:
        """Whether a row is of another class, and its text in none of the classes of the text of row ``index``."""
        if self._codes[candidate] == self._codes[index]:
            return False
        return not self._several or self._classes(candidate).isdisjoint(self._classes(index))

    def _classes(self, row: int) -> set[int]:
        """All classes that the text of a row has."""
        return self._several.get(int(self._ids[row])) or {int(self._codes[row])}


class _Names:
    """Reads the classes of records, and checks that each label has one text and each text one label."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str | None, str]] = {}  # by label: its text, and where it was first seen
        self._labels: dict[str, tuple[str | None, str]] = {}  # by the name of the class: its label, likewise

    def read(self, record: Record) -> str:
        """The class of a record: ``label_text``, or where no row of the label has any, ``label``.

        Raises:
            DataError: there is none, the two do not go together, or one is a list (several classes) or a number with a
                fraction, which is no class.
        """
        text = record.fields.get("label_text")
        text = None if text is None or (isinstance(text, str) and not text.strip()) else _whole(text, record)
        label = record.fields.get("label")
        if text is None:
            label = required(record, "label")
        label = None if label is None or (label == "" and text is not None) else _whole(label, record)
        if label is not None:
            self._check(self._texts, label, text, "label", "label_text", record)
        name = text if text is not None else str(label)
        self._check(self._labels, name, label, "label_text" if text is not None else "label", "label", record)
        return name

    @staticmethod
    def _check(
        seen: dict[str, tuple[str | None, str]], key: str, value: str | None, name: str, other: str, record: Record
    ) -> None:
        before, where = seen.setdefault(key, (value, record.where))
        if before != value:
            here, there = ("no value" if given is None else repr(given[:40]) for given in (value, before))
            raise DataError(
                f"{record.where}: {name} {key[:40]!r} has {here} in {other!r}, and {there} in {where}, so whether the "
                "two rows are of one class is not known; make the rows alike, or leave one of the columns out"
            )


def _whole(value: object, record: Record) -> str:
    whole = isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())
    if not whole or (isinstance(value, str) and not value.strip()):
        raise DataError(
            f"{record.where}: the label is {repr(value)[:40]}; expected one class, a text or a whole number"
        )
    return str(int(value)) if isinstance(value, float) else str(value).strip()


_DRAWS = 64  # before the rows of other classes are counted out
CLASSIFICATION = Adapter(
    classification_rows,
    "classification",
    symmetric=True,
    whole=True,
    columns=frozenset({"text", "sentence", "label", "label_text"}),
)
