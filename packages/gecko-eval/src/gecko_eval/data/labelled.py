"""Reads JSON lines of labelled or scored texts, column by column."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import read_table

_LARGEST = 2**63  # data sets keep whole numbers in 64 bits


@dataclass(frozen=True)
class Column:
    """One column of a set.

    Attributes:
        name: what the columns read call it.
        key: its key in the file.
        types: what its values must be.
        allowed: the values there may be; empty where any will do.
        hint: what to tell a user who gives another one.
    """

    name: str
    key: str
    types: type | tuple[type, ...]
    allowed: tuple[Any, ...] = ()
    hint: str = ""


def read_columns(path: Path, columns: Sequence[Column]) -> dict[str, list[Any]]:
    """Read a .jsonl file (also .gz).

    Args:
        path: the file.
        columns: those wanted.

    Returns:
        Name -> values, all of one length.

    Raises:
        DataError: no rows, a value that is missing, of the wrong type, infinite or not allowed, or labels that are
            numbers in one row and text in another. The line names file and row.
    """
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    label_types: dict[type, str] = {}
    for _, where, fields in read_table(path):
        for column in columns:
            value = _checked(fields, column, where)
            if column.key == "label":
                label_types.setdefault(type(value), where)
            values[column.name].append(value)
    if not next(iter(values.values())):
        raise DataError(f"{path}: no rows in it; a set needs at least one")
    if len(label_types) > 1:
        first, second = list(label_types.values())[:2]
        raise DataError(f"{second}: the label is of another type than in {first}; write all as text or all as numbers")
    return values


def check_contrast(path: Path, key: str, values: list[Any]) -> None:
    """Refuse a column of equal values: it says nothing about a model, and the metrics are not defined on it.

    Raises:
        DataError: all values are equal.
    """
    if len(set(values)) < 2:
        raise DataError(f"{path}: all {len(values)} rows have the {key} {values[0]!r}; at least two are needed")


def _types(column: Column) -> tuple[type, ...]:
    return column.types if isinstance(column.types, tuple) else (column.types,)


def _wanted(types: Sequence[type]) -> str:
    number = "a number" if float in types else "a whole number"
    return " or ".join(["text"] * (str in types) + [number] * (int in types or float in types))


def _checked(fields: Mapping[str, Any], column: Column, where: str) -> Any:
    key, value = column.key, fields.get(column.key)
    if not isinstance(value, column.types) or isinstance(value, bool):
        found = f"{str(value)[:40]!r}, which is text" if isinstance(value, str) else f"of type {type(value).__name__}"
        fault = "missing" if key not in fields else "empty or NaN" if value is None else found
        raise DataError(f"{where}: the key {key!r} is {fault}; it must be {_wanted(_types(column))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where}: the {key} is infinite; give a number")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise DataError(f"{where}: the {key} is too large; {_LARGEST - 1} is the most")
    if column.allowed and value not in column.allowed:
        raise DataError(f"{where}: the {key} is {value}; {column.hint}")
    return value
