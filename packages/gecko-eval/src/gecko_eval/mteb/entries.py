"""What the names after ``--tasks`` mean: folders, tasks and benchmarks, as entries of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ConfigError, DataError
from gecko_eval.mteb.local import LocalSet, broken_set, discover, local_set
from gecko_eval.mteb.tasks import TaskPrompt, expand_names, task_prompt

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


@dataclass(frozen=True)
class Entry:
    """One task to run.

    Attributes:
        name: the task's name in results.
        kind: mteb's task type.
        origin: where its data comes from.
        prompt: the prompt that its texts get.
        load: reads or downloads the data.
        data: identifies the content: for a folder it changes with the files, for mteb's it is the revision downloaded.
    """

    name: str
    kind: str
    origin: str
    prompt: TaskPrompt
    load: Callable[[], AbsTask]
    data: Callable[[], str]


def entries_for(
    names: Iterable[str], local_root: Path | None, extra: Sequence[LocalSet] = (), *, drop_unjudged: bool = False
) -> list[Entry]:
    """The tasks to run: folders under ``local_root`` first (by folder name or mteb's name), else mteb's tasks.

    Args:
        names: of folders, tasks and benchmarks; ``local`` stands for every folder under ``local_root``.
        local_root: the folder of folders.
        extra: sets to run whatever ``names`` says.
        drop_unjudged: whether queries without judgement are left out instead of refused.

    Raises:
        ConfigError: an unknown name, or two sets of one name.
    """
    names = list(names)
    chosen = _Chosen(extra)
    folders = _by_name(discover(local_root, drop_unjudged)) if local_root and names else {}
    by_mteb = {folder.mteb_name: folder for folder in folders.values() if folder.mteb_name}
    others = []
    for name in names:
        if name == "local":
            if not folders:
                raise ConfigError("the task 'local' needs a data folder: set GECKO_DATA_DIR or give --local")
            for folder in folders.values():
                chosen.add(folder)
        elif name in folders or name in by_mteb:
            chosen.add(folders.get(name) or by_mteb[name])
        else:
            others.append(name)
    for name in others:
        _add_from_mteb(chosen, name, by_mteb, local_root)
    return list(chosen.entries.values())


class _Chosen:
    """The entries so far, by name; the user's own sets must not share a name with another folder."""

    def __init__(self, extra: Sequence[LocalSet]) -> None:
        self.entries = {local.name: _local_entry(local) for local in extra}
        self._own = {local.name: local.folder for local in extra}
        if len(self.entries) < len(extra):
            names = ", ".join(local.name for local in extra)
            raise ConfigError(f"two sets of one name among {names}; rename a folder")

    def add(self, local: LocalSet) -> None:
        entry = _local_entry(local)
        other = self._own.get(local.name) or self._own.get(entry.name)
        if other is not None:
            raise ConfigError(
                f"{local.folder} and {other} are both called {local.name}; rename one of the folders, or leave one out"
            )
        self.entries[entry.name] = entry


def _add_from_mteb(chosen: _Chosen, name: str, by_mteb: dict[str, LocalSet], local_root: Path | None) -> None:
    try:
        tasks = expand_names([name])
    except ConfigError:
        if not local_root or not name or not (local_root / name).is_dir():
            raise
        chosen.add(_unrecognised(local_root / name, name))
        return
    for task in tasks:
        if task.metadata.name in by_mteb:
            chosen.add(by_mteb[task.metadata.name])
        else:
            chosen.entries.setdefault(task.metadata.name, _mteb_entry(task))


def _by_name(folders: Sequence[LocalSet]) -> dict[str, LocalSet]:
    by_name: dict[str, LocalSet] = {}
    for local in folders:
        first = by_name.setdefault(local.name, local)
        if first is not local:
            raise ConfigError(f"{first.folder} and {local.folder} are both called {local.name}; rename one of them")
    return by_name


def _unrecognised(folder: Path, name: str) -> LocalSet:
    try:
        return local_set(folder, name)
    except DataError as error:
        return broken_set(folder, name, error)


def _local_entry(local: LocalSet) -> Entry:
    name = local.mteb_name or local.name
    return Entry(name, local.kind, f"folder {local.name}", local.prompt, local.load, local.fingerprint)


def _mteb_entry(task: Any) -> Entry:
    def load() -> AbsTask:
        if "test" in task.eval_splits and len(task.eval_splits) > 1:
            task.filter_eval_splits(["test"])
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
        return task

    name, kind = task.metadata.name, task.metadata.type
    return Entry(name, kind, "mteb", task_prompt(name, kind), load, lambda: str(task.metadata.revision))
