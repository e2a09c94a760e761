"""What a section of the report is, and what it is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gecko_core.prompts import DEFAULT_TASK
from gecko_fret.build.folder import Workspace
from gecko_fret.steps import MINE, Candidate, MinedRow, Step


@dataclass(slots=True)
class ReportSection:
    """A titled table with a sentence above it.

    Attributes:
        title: the heading.
        note: the sentence.
        header: names of the columns.
        rows: cells by row; without rows no table is shown.
        bar: index of a column of numbers that is also drawn.
        intervals: instead of a bar, (low, value, high) of every row between 0 and 1, drawn as a point on a line.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]] = ()
    bar: int | None = None
    intervals: Sequence[tuple[float, float, float]] = ()

    @property
    def longest(self) -> float:
        """The number whose bar fills the width."""
        return max((row[self.bar] for row in self.rows), default=0) if self.bar is not None else 0


@dataclass(slots=True)
class ReportData:
    """What the sections are made of.

    Attributes:
        workspace: the FRet folder.
        manifest: its manifest.
        real: real queries that the user gave to compare with; None: none.
        real_name: the file that they are from.
        embedder: of the build, where queries are to be encoded; None: not.
        rows: the rows of training data.
        answered: those that have a positive, with it.
        counts: rows of every step that counts them.
        rejects: rejected rows by step and reason.
    """

    workspace: Workspace
    manifest: dict[str, Any]
    real: Sequence[str] | None = None
    real_name: str = "real queries"
    embedder: Any = None
    rows: list[MinedRow] = field(init=False)
    answered: list[tuple[MinedRow, Candidate]] = field(init=False)
    counts: dict[str, int] = field(init=False)
    rejects: dict[str, dict[str, int]] = field(init=False)
    _encoded: dict[str, np.ndarray] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = list(self.workspace.parts(MINE))
        self.answered = [
            (row, next(candidate for candidate in row.candidates if candidate.id == row.positive_id))
            for row in self.rows
            if row.positive_id is not None
        ]
        self.counts, self.rejects = self.workspace.counts(), self.workspace.reject_counts()

    def count(self, step: Step[Any]) -> int:
        """Rows of a step."""
        return self.counts[step.counted_as] if step.counted_as else 0

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """(n, D) vectors of queries by the build's embedder, each text encoded once.

        All have the same task: that of a written query would give it away.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if new:
            batch_tokens = self.manifest["config"]["embedder"].get("batch_tokens")
            encoded = self.embedder.encode_queries(new, task=DEFAULT_TASK, batch_tokens=batch_tokens)
            self._encoded |= dict(zip(new, np.asarray(encoded), strict=True))
        return np.stack([self._encoded[text] for text in texts])

    def full_text(self, identifier: str) -> str:
        """Title and text of a passage."""
        return self.workspace.corpus.get(identifier).full_text


def as_text(section: ReportSection) -> str:
    """A section as plain text with aligned columns."""
    table = [list(map(str, section.header)), *([str(cell) for cell in row] for row in section.rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(section.header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([section.title, section.note, *lines])
