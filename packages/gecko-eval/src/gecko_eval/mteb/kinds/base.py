"""What a kind of judged data has to know."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from gecko_eval.mteb.public_content import PublicContent

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class Items(NamedTuple):
    """The values behind a score, one per query, pair or text.

    Attributes:
        statistic: how they make the score: ``mean``, or ``spearman`` or ``ap`` of values and gold.
        values: (n,) float64.
        gold: (n,) float64; unused for ``mean``.
    """

    statistic: str
    values: np.ndarray
    gold: np.ndarray


class Kind(ABC):
    """A kind of judged data, in folders and in mteb. To add one: subclass it in a new file and list it in ``KINDS``.

    Attributes:
        name: mteb's task type.
        unit: what its items are called: "pairs".
        searches: whether it ranks the documents of a corpus. Such sets may come as a folder of folders, one per
            language, and take ``--task-string``.
        files: files whose content decides scores, beside those that ``files_fingerprint`` reads for all kinds.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    searches: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """Whether the folder holds data of this kind.

        Args:
            folder: the folder.
            fields: the keys in the first row of its test.jsonl; empty where it has none.
        """

    @abstractmethod
    def rows(self, folder: Path) -> Iterator[Sequence[Any]]:
        """Everything that decides a score (texts, labels, judgements), in order, as plain values.

        Raises:
            DataError: a file cannot be read.
        """

    @abstractmethod
    def load(self, folder: Path, name: str, public: PublicContent | None, *, drop_unjudged: bool = False) -> AbsTask:
        """The folder as a task of mteb with its data loaded.

        Args:
            folder: the folder.
            name: what to call the task.
            public: the public set with this content, whose task of mteb gets the data; None for any other content.
            drop_unjudged: whether queries without judgement are left out instead of refused.

        Raises:
            DataError: data that is broken or cannot be scored; the line names file and row.
        """

    def prepare(self, task: Any) -> Any:
        """The task as it is run: a loaded one, from a folder or from mteb, as it is for most kinds."""
        return task

    def scored_items(self, task: Any, scores: Any) -> dict[str, np.ndarray] | None:
        """The items that mteb's scores hold, by "split/subset"; None for kinds whose items come from predictions."""
        return None

    def items(self, task: Any, predicted: Any, data: Any) -> Items | None:
        """The items of one split, from the predictions that mteb wrote; None where the kind keeps none."""
        return None


def public_task(public: PublicContent | None) -> Any:
    """The task of mteb with this public content, its test split and one subset only; None where there is none."""
    if public is None:
        return None
    import mteb

    subsets = {} if public.subset == "default" else {"hf_subsets": [public.subset]}
    return mteb.get_task(public.task, eval_splits=["test"], **subsets)


def new_task(base: type, name: str, kind: str, main_score: str, **attributes: Any) -> Any:
    """A task of mteb's class ``base`` that mteb has no name for."""
    from mteb.abstasks.task_metadata import TaskMetadata

    metadata = TaskMetadata(
        name=name,
        dataset={"path": f"local/{name}", "revision": hashlib.sha256(name.encode()).hexdigest()[:40]},
        description=f"The folder {name}, evaluated as {kind}.",
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=main_score,
    )
    return type("LocalTask", (base,), {"metadata": metadata, **attributes})()
