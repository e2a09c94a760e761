"""Lists of texts as callers give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gecko_core.errors import DataError

__all__ = ["check_list"]


def check_list(texts: Any, what: str = "text") -> None:
    """Refuse what Python would iterate over all the same: letters, keys of a mapping, names of columns, a set's order.

    Args:
        texts: what should be a list of str.
        what: the word for one of them in messages.

    Raises:
        DataError: ``texts`` is such a thing.
    """
    several = f"{what[:-1]}ies" if what.endswith("y") else f"{what}s"
    if isinstance(texts, str | bytes):
        raise DataError(f"{several} must come as a list of str; wrap the single {what} in [ ]")
    # An array without dimensions, and a class such as `list`, look iterable and are not.
    iterable = isinstance(texts, Iterable) or hasattr(texts, "__getitem__")
    if not iterable or isinstance(texts, type) or getattr(texts, "ndim", None) == 0:
        single = f"; wrap the single {what} in [ ]" if isinstance(texts, np.ndarray) else ""
        raise DataError(f"{several} must come as a list of str, not as {type(texts).__name__}{single}")
    if isinstance(texts, Mapping | set | frozenset) or hasattr(texts, "iterrows"):
        raise DataError(
            f"{several} came as a {type(texts).__name__}, of which only keys, or nothing in order, could be read; give "
            "a list of str, such as list(d.values()) or frame['text'].tolist()"
        )
