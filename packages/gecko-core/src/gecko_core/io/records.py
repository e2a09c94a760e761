"""One row of a table, and how its fields are read: an id, a text, an optional text. Nothing is guessed or converted."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Any, NamedTuple

from gecko_core.errors import DataError, printable

_MOST_NAMES = 20


def listed(names: Collection[str]) -> str:
    """Names of columns for a message: the first 20, each cut to 80 characters, and how many more there are."""
    shown = ", ".join(printable(str(name)[:80]) for name in islice(names, _MOST_NAMES)) or "none"
    return shown + (f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else "")


class Record(NamedTuple):
    """One row of a table.

    Attributes:
        number: row number from 1; for JSONL the line's, so that blank lines count.
        where: the start of error messages about this row: ``file:line`` or ``file, row number``.
        fields: column name to value; NaN, as pandas writes a missing value, is None.
    """

    number: int
    where: str
    fields: dict[str, Any]

    def identifier(self, *keys: str) -> str | None:
        """The id in the first of some fields that is not empty; None where all are.

        Raises:
            DataError: it is neither text nor a whole number; ``1.0`` of a column of floats may stand for 1 or "1.0".
        """
        for key in keys:
            value = self.fields.get(key)
            if value is not None and value != "":
                if isinstance(value, bool) or not isinstance(value, str | int):
                    what = f"{repr(value)[:40]} is a {type(value).__name__}"
                    raise DataError(f"{self.where}: {key} {what}; use text or whole numbers")
                return str(value)
        return None

    def text(self, key: str) -> str:
        """The text in a field, which may be empty.

        Raises:
            DataError: there is none, or it is not text.
        """
        value = self.fields.get(key)
        if isinstance(value, str):
            return value
        found = f"found: {listed(self.fields)}"
        if key not in self.fields:
            raise DataError(f"{self.where}: {key!r} is missing ({found}); every row needs it")
        problem = "empty" if value is None else f"{type(value).__name__}, not text"
        raise DataError(f"{self.where}: {key!r} is {problem} ({found}); every row needs it as text")

    def optional_text(self, key: str) -> str | None:
        """The text in a field; a whole number is read as its digits; None where there is nothing but white space.

        Raises:
            DataError: something else, such as a list, whose ``str()`` nobody wants as a title.
        """
        value = self.fields.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"{self.where}: {key!r} is {type(value).__name__}; it must be text")
        return str(value) if str(value).strip() else None
