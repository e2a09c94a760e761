"""Columns of a task's data as lists: mteb's classification reads the label of every training row, one by one.

It does so ten times, and ``datasets`` decodes a row for each access; on 16,000 rows that takes longer than encoding the
test set. Nothing else changes: mteb samples, trains and scores as ever, on the same rows.
"""

from __future__ import annotations

import copy
from typing import Any


def with_list_columns(data: Any) -> Any:
    """The same data (a Dataset, or dicts of them at any depth) whose columns, asked for by name, are plain lists."""
    from datasets import Dataset

    if isinstance(data, dict):
        return type(data)({key: with_list_columns(value) for key, value in data.items()})
    if not isinstance(data, Dataset):
        return data
    found = copy.copy(data)
    found.__class__ = _list_columns()
    return found


def _list_columns() -> type:
    from datasets import Dataset

    class ListColumns(Dataset):
        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            return found[:] if isinstance(key, str) else found

    return ListColumns
