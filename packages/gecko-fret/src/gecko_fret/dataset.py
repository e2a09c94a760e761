"""Reading a FRet folder: rows with their passages in place of ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from gecko_core.errors import DataError
from gecko_fret.build.folder import Workspace, no_fret_folder
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps import MINE, Candidate, MinedRow
from gecko_fret.steps.sources import as_shown

__all__ = ["Candidate", "FretData", "FretRow", "load_fret"]


@dataclass(frozen=True, slots=True)
class FretRow:
    """One training example, and everything it was decided from.

    Attributes:
        id: of the query.
        task: the task line.
        query: the query.
        positive: the passage with the best fused score, unless ``mine.positive`` says otherwise; None where the judges
            found no answer among the candidates (``mine.unanswered: keep``).
        negatives: hard negatives.
        seed_id: the passage that the query was written from; None where it was not written from one.
        seed_rank: its rank, from 1, among the neighbours of the query; None where it is not among them.
        candidates: every neighbour with its scores, ordered by fused score, best first.
        source: where the query is from, one of ``generate.sources``. Beside a title no passage shows its own.
    """

    id: str
    task: str
    query: str
    positive: Passage | None
    negatives: list[Passage]
    seed_id: str | None
    seed_rank: int | None
    candidates: list[Candidate]
    source: str = "llm"


class FretData(Sequence[FretRow]):
    """The rows of a FRet folder.

    Args:
        rows: the rows with ids in place of passages.
        corpus: the passages.
        manifest: how the rows were made.
    """

    def __init__(self, rows: list[MinedRow], corpus: Corpus, manifest: dict[str, Any]):
        self._rows, self.corpus, self.manifest = rows, corpus, manifest

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> FretRow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FretRow]: ...
    def __getitem__(self, index: int | slice) -> FretRow | Sequence[FretRow]:
        if isinstance(index, slice):
            return [self._row(row) for row in self._rows[index]]
        return self._row(self._rows[index])

    def __iter__(self) -> Iterator[FretRow]:
        return map(self._row, self._rows)

    def passage(self, identifier: str, source: str = "llm") -> Passage:
        """The passage with this id, such as that of a candidate.

        Args:
            identifier: its id.
            source: of the row that it is shown in.

        Raises:
            KeyError: there is none.
        """
        return as_shown(self.corpus.get(identifier), source)

    def _row(self, row: MinedRow) -> FretRow:
        return FretRow(
            id=row.id,
            task=row.task,
            query=row.query,
            positive=None if row.positive_id is None else self.passage(row.positive_id, row.source),
            negatives=[self.passage(identifier, row.source) for identifier in row.negative_ids],
            seed_id=row.seed_id,
            seed_rank=row.seed_rank,
            candidates=row.candidates,
            source=row.source,
        )


def load_fret(path: str | Path) -> FretData:
    """Read a finished FRet folder.

    Args:
        path: the folder; formats 1 and 2 are read.

    Raises:
        DataError: it is no FRet folder, its build is not finished, or a part is missing, damaged or not of this build.
    """
    workspace = Workspace(path)
    manifest = workspace.read_manifest()
    if manifest is None:
        raise no_fret_folder(path)
    if not manifest.get("complete"):
        raise DataError(f"{path}: the build is not finished; run the same gecko-fret build command again to go on")
    return FretData(list(workspace.parts(MINE)), workspace.corpus, manifest)
