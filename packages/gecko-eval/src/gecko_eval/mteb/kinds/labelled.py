"""Kinds whose data is a test.jsonl (and perhaps a train.jsonl) of labelled or scored texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from gecko_core.io import read_table
from gecko_eval.data.files import find_file
from gecko_eval.data.labelled import Column, check_contrast, read_columns
from gecko_eval.mteb.kinds.base import Kind, public_task
from gecko_eval.mteb.public_content import PublicContent

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

Columns = dict[str, list[Any]]


class LabelledKind(Kind):
    """A kind read from JSON lines.

    Attributes:
        columns: columns of the file; the last one holds the labels or scores.
        splits: the files that decide a score; the first must hold more than one label or score.
    """

    columns: ClassVar[tuple[Column, ...]]
    splits: ClassVar[tuple[str, ...]] = ("test",)

    @abstractmethod
    def make_task(self, name: str, splits: Mapping[str, Columns]) -> Any:
        """A task of this kind that mteb has no name for."""

    def check(self, splits: Mapping[str, Columns], folder: Path) -> None:
        """Refuse data that cannot be scored.

        Raises:
            DataError: all labels, or all scores, are alike.
        """
        column = self.columns[-1]
        check_contrast(find_file(folder, f"{self.splits[0]}.jsonl"), column.key, splits[self.splits[0]][column.name])

    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """See ``Kind``."""
        return {column.key for column in self.columns} <= set(fields)

    def rows(self, folder: Path) -> Iterator[Sequence[Any]]:
        """See ``Kind``."""
        for split in self.splits:
            for _, _, fields in read_table(find_file(folder, f"{split}.jsonl")):
                yield [split, *(_plain(column.key, fields.get(column.key)) for column in self.columns)]

    def load(self, folder: Path, name: str, public: PublicContent | None, *, drop_unjudged: bool = False) -> AbsTask:
        """See ``Kind``."""
        from datasets import Dataset, DatasetDict

        splits = {split: read_columns(find_file(folder, f"{split}.jsonl"), self.columns) for split in self.splits}
        self.check(splits, folder)
        notes = self.notes(splits)
        self.convert(splits, public)
        data = DatasetDict({split: Dataset.from_dict(columns) for split, columns in splits.items()})
        task, subset = public_task(public), public.subset if public is not None else "default"
        if task is None:
            task, subset = self.make_task(name, splits), "default"
        task.dataset = data if subset == "default" else {subset: data}
        task.data_loaded = True
        task.notes = notes  # for whoever runs it
        return task

    def notes(self, splits: Mapping[str, Columns]) -> tuple[str, ...]:
        """What a reader of the scores should know, one line each."""
        return ()

    def convert(self, splits: Mapping[str, Columns], public: PublicContent | None) -> None:
        """Bring the columns into the form that mteb's tasks want, in place. Most kinds need nothing."""


def _plain(key: str, value: Any) -> Any:
    if key == "label":
        return str(value)
    with suppress(OverflowError):  # of hundreds of digits: loading the set says so
        return float(value) if isinstance(value, (int, float)) else value
    return value
