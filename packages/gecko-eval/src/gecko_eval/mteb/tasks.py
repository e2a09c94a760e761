"""Which prompt each evaluation task gets (Lee et al. 2024, Table 9), and which tasks a name stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ConfigError
from gecko_core.prompts import DEFAULT_TASK, TASKS, Task

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


@dataclass(frozen=True)
class TaskPrompt:
    """A task's prompt.

    Attributes:
        task: the task string of a query.
        symmetric: whether documents get the query's format, or their own.
        source: where it comes from: ``paper``, ``ours``, or ``yours`` (given by the user).
    """

    task: str
    symmetric: bool
    source: str = "paper"

    def __str__(self) -> str:
        return f"{self.task} ({'symmetric' if self.symmetric else 'asymmetric'}, {self.source})"


# Strings that are ours: the paper names neither these kinds nor MIRACL.
_OURS = {
    *("MultilabelClassification", "BitextMining", "Retrieval", "Reranking", "InstructionRetrieval"),
    *("InstructionReranking", "miracl"),
}

#: Names that stand for several tasks and are not mteb benchmarks of that name.
GROUPS = {"MIRACL": ("MIRACLRetrieval",), "MIRACL-lite": ("MIRACLRetrievalHardNegatives",)}


def task_prompt(name: str, task_type: str) -> TaskPrompt:
    """The prompt of an mteb task: by its name where the paper's table has it, else by its type, else a plain search.

    Strings and formats are those of `gecko_core.TASKS`, which a saved model carries, too. A task of other name but the
    same data (``NanoSciFactRetrieval``, ``FEVERHardNegatives``, ``Touche2020Retrieval.v3``) gets its parent's.
    """
    base = _base_name(name)
    if task_type in {"Retrieval", "Reranking", "Summarization"} and base in _by_base_name():
        return _as_prompt(_by_base_name()[base], base)
    if task_type in TASKS:
        return _as_prompt(TASKS[task_type], task_type)
    return TaskPrompt(DEFAULT_TASK, True, "ours")


def _as_prompt(task: Task, key: str) -> TaskPrompt:
    return TaskPrompt(task.text, task.symmetric, "ours" if key in _OURS else "paper")


@lru_cache
def _by_base_name() -> dict[str, Task]:
    return {base: task for name, task in TASKS.items() if (base := _base_name(name))}


def _base_name(name: str) -> str:
    """Without version, "Retrieval", "Reranking", "HardNegatives", "Nano"; every forum of CQADupstack is CQADupstack."""
    name = re.sub(r"\.v\d+$", "", name)
    name = re.sub(r"^Nano|Summarization$", "", name)
    name = re.sub(r"(Retrieval|Reranking|HardNegatives|Lite)+$", "", name).lower()
    return "cqadupstack" if name.startswith("cqadupstack") else {"miraclja": "miracl"}.get(name, name)


def prompt_fingerprint() -> str:
    """Changes whenever a prompt changes, so that scores taken under other prompts are not mistaken for current ones."""
    import hashlib

    table = sorted((name, task.text, task.symmetric) for name, task in TASKS.items())
    return hashlib.sha256(repr(table).encode()).hexdigest()[:12]


def expand_names(names: Iterable[str]) -> list[AbsTask]:
    """The tasks of mteb that benchmarks (``MTEB(eng, v2)``, ...), groups (``MIRACL``) and single names stand for.

    Tasks made of other tasks (CQADupstack) are replaced by their parts. Nothing is loaded.

    Raises:
        ConfigError: a name mteb does not know; the line proposes the nearest ones.
    """
    import mteb

    tasks: dict[str, Any] = {}
    for name in names:
        for task in _one_name(name, mteb):
            parts = getattr(task.metadata, "tasks", None) or [task]
            tasks.update({part.metadata.name: part for part in parts})
    return list(tasks.values())


def _one_name(name: str, mteb: Any) -> list[AbsTask]:
    if name in GROUPS:
        return [mteb.get_task(part) for part in GROUPS[name]]
    benchmarks = {b.name: b for b in mteb.get_benchmarks()}
    if name in benchmarks:
        return list(benchmarks[name].tasks)
    try:
        return [mteb.get_task(name)]
    except KeyError:
        import difflib

        from mteb.get_tasks import TASK_LIST

        known = [*benchmarks, *GROUPS, *(t.metadata.name for t in TASK_LIST)]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else "; for a folder, set GECKO_DATA_DIR or give --local"
        raise ConfigError(f"no task, benchmark or folder is called {name!r}{hint}") from None
