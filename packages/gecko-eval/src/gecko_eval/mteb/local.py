"""Folders of judged data as mteb tasks: read here, computed by mteb's own code, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gecko_core.errors import DataError
from gecko_core.io import read_table
from gecko_eval.data.files import find_file
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.mteb.kinds import KINDS, Kind, retrieval_task
from gecko_eval.mteb.public_content import find_public
from gecko_eval.mteb.tasks import TaskPrompt, task_prompt

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


@dataclass(frozen=True)
class LocalSet:
    """A folder recognised as evaluation data.

    Attributes:
        name: the folder's name.
        folder: where it is.
        kind: mteb's task type.
        mteb_name: mteb's task with the same content, whose public scores compare; None for any other content.
        prompt: the prompt that its texts get.
        load: reads the data.
        fingerprint: changes with the content of the files.
    """

    name: str
    folder: Path
    kind: str
    mteb_name: str | None
    prompt: TaskPrompt
    load: Callable[[], AbsTask]
    fingerprint: Callable[[], str]


def discover(root: str | Path, drop_unjudged: bool = False) -> list[LocalSet]:
    """Every folder under ``root`` that can be evaluated, by name; training-only folders are passed over.

    A folder of folders (one per language) gives retrieval sets called ``folder-inner``.

    Args:
        root: the folder of folders.
        drop_unjudged: whether queries without judgement are left out instead of refused.

    Raises:
        DataError: ``root`` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (from GECKO_DATA_DIR or --local)")
    sets = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            inner = [path for path in sorted(folder.iterdir()) if path.is_dir()]
        except OSError as error:
            reason = DataError(f"{folder}: cannot be read ({error.strerror})")
            sets.append(broken_set(folder, _printable(folder.name), reason))
            continue
        for path, name in ((folder, folder.name), *((path, f"{folder.name}-{path.name}") for path in inner)):
            name = _printable(name)
            try:
                kind = recognise(path)
            except DataError as error:
                sets.append(broken_set(path, name, error))
                continue
            if kind and (path == folder or kind.searches):
                sets.append(_local_set(path, name, kind, drop_unjudged))
    return sets


def local_set(
    folder: str | Path, name: str | None = None, drop_unjudged: bool = False, *, own: bool = False
) -> LocalSet:
    """The folder as a task. Its data is read when ``load`` is called.

    Args:
        folder: the folder.
        name: what to call it; the folder's name by default.
        drop_unjudged: whether queries without judgement are left out instead of refused.
        own: whether it is the user's own data, which keeps its name whatever its content is.

    Raises:
        DataError: nothing in the folder looks like evaluation data.
    """
    folder = Path(folder)
    kind = recognise(folder) if folder.is_dir() else None
    if kind is None:
        raise DataError(
            f"{folder}: {'no evaluation data found' if folder.is_dir() else 'no such folder'}; expected BEIR files, a "
            "queries.csv, or a test.jsonl of sentence1/sentence2/score, sentence1/sentence2/label or text/label"
        )
    return _local_set(folder, name or folder.resolve().name, kind, drop_unjudged, own)


def recognise(folder: Path) -> Kind | None:
    """The kind of data in a folder, from its files and the first row of its test.jsonl; None where there is none.

    Raises:
        DataError: test.jsonl cannot be read, or there is data of several kinds.
    """
    by_files = next((kind for kind in KINDS if kind.recognise(folder, ())), None)
    fields: set[str] = set()
    try:
        fields = _first_fields(folder)
    except DataError:
        if by_files is None:  # a broken test.jsonl beside BEIR files does not matter
            raise
    kinds = [kind for kind in KINDS if kind.recognise(folder, fields)]
    if len(kinds) > 1:
        names = " as well as ".join(kind.name for kind in kinds)
        raise DataError(
            f"{folder}: holds data of {names} (test.jsonl has the columns {', '.join(sorted(fields))}); leave out what "
            "is not to be tested"
        )
    return kinds[0] if kinds else None


def from_retrieval_set(data: RetrievalSet, folder: Path) -> LocalSet:
    """A judged set already in memory, as a task under its own prompt."""
    prompt = TaskPrompt(data.task, data.symmetric, "yours")
    return LocalSet(data.name, folder, "Retrieval", None, prompt, lambda: retrieval_task(data), data.fingerprint)


def broken_set(folder: Path, name: str, reason: DataError) -> LocalSet:
    """A folder that cannot be read: running it fails with ``reason``, and the other sets still run."""

    def load() -> AbsTask:
        raise reason

    prompt = TaskPrompt("search result", False, "ours")
    return LocalSet(name, folder, "unreadable", None, prompt, load, lambda: "")


#: What evaluation reads of a folder.
_FILES = (
    *("corpus.jsonl", "corpus.csv", "corpus.tsv", "queries.jsonl", "queries.csv", "queries.tsv"),
    *("train.jsonl", "test.jsonl", "qrels"),
)


def files_fingerprint(folder: Path, further: tuple[str, ...] = ()) -> str:
    """Changes with the content of any file that evaluation reads.

    Args:
        folder: the folder.
        further: files that its kind reads beside the usual ones.
    """
    digest = hashlib.sha256()
    for name in (*_FILES, *further):
        paths = sorted((folder / name).glob("*")) if name == "qrels" else [folder / name, folder / f"{name}.gz"]
        for path in paths:
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _local_set(folder: Path, name: str, kind: Kind, drop_unjudged: bool, own: bool = False) -> LocalSet:
    public = None if own else find_public(kind.name, kind.rows(folder))
    task = public.task if public is not None else None
    return LocalSet(
        name,
        folder,
        kind.name,
        task,
        task_prompt(task or name, kind.name),
        lambda: kind.load(folder, name, public, drop_unjudged=drop_unjudged),
        lambda: (
            files_fingerprint(folder, kind.files) + (" unjudged dropped" if drop_unjudged and kind.searches else "")
        ),
    )


def _first_fields(folder: Path) -> set[str]:
    """The keys in the first row of a folder's test.jsonl; empty where there is none."""
    if not any((folder / name).is_file() for name in ("test.jsonl", "test.jsonl.gz")):
        return set()
    return next((set(record.fields) for record in read_table(find_file(folder, "test.jsonl"))), set())


def _printable(name: str) -> str:
    """A folder's name may be any bytes; those that are not UTF-8 are shown as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
