"""What a stage is: a function from a batch of rows to a batch of rows, with what it rejected and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

Row = dict[str, Any]

REJECT_SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("id", pa.string()),
        ("detail", pa.string()),
        ("text", pa.string()),
    ]
)


@dataclass(slots=True)
class StageResult:
    """Rows that go on, rows that do not (columns of `REJECT_SCHEMA`), and counters such as tokens."""

    rows: list[Row]
    rejects: list[Row] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


class Stage(Protocol):
    """A callable that an engine runs over parts; it keeps models between calls and nothing else."""

    def __call__(self, rows: Sequence[Row]) -> StageResult: ...

    def close(self) -> None: ...


def reject(stage: str, reason: str, identifier: str, text: str, detail: str = "") -> Row:
    """A row of the rejects folder."""
    return {"stage": stage, "reason": reason, "id": identifier, "detail": detail, "text": text}
