"""Public data recognised by its content: only it gets mteb's public task names, whatever its folder is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from gecko_core.errors import DataError


@dataclass(frozen=True)
class PublicContent:
    """A public judged set, told by its content.

    Attributes:
        kind: mteb's task type.
        first: hash of the first row, so that other data is told apart without reading it whole.
        content: hash of all rows.
        task: mteb's task with the same content.
        subset: the subset of that task.
        labels: names of the labels in the order of mteb's numbers for them.
    """

    kind: str
    first: str
    content: str
    task: str
    subset: str = "default"
    labels: tuple[str, ...] = ()


@cache
def public_contents() -> tuple[PublicContent, ...]:
    """The table in ``public_content.json``, which ``benchmarks/public_content.py`` writes."""
    table = json.loads((files("gecko_eval.mteb") / "public_content.json").read_text(encoding="utf-8"))
    return tuple(PublicContent(**entry | {"labels": tuple(entry.get("labels", ()))}) for entry in table)


def find_public(kind: str, rows: Iterable[Sequence[Any]]) -> PublicContent | None:
    """The public set with exactly these rows, or None.

    Args:
        kind: mteb's task type.
        rows: what ``Kind.rows`` yields; only the first is read where no public set begins with it.
    """
    rows = iter(rows)
    try:
        first = next(rows, None)
        if first is None:
            return None
        candidates = [
            public for public in public_contents() if (public.kind, public.first) == (kind, content_hash([first]))
        ]
        content = content_hash([first, *rows]) if candidates else ""
    except DataError:  # whoever loads the set reports it
        return None
    return next((public for public in candidates if public.content == content), None)


def content_hash(rows: Iterable[Sequence[Any]]) -> str:
    """SHA-256 over rows of plain values, in order; the layout of the file they come from does not matter."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(list(row), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()
