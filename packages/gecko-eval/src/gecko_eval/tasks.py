"""Which task string and format each evaluation task gets (Lee et al. 2024, Table 9), and which tasks a name means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ConfigError

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


@dataclass(frozen=True)
class TaskPrompt:
    """The task string of a query, and whether documents get the query's format (symmetric) or their own."""

    task: str
    symmetric: bool
    source: str = "paper"

    def __str__(self) -> str:
        return f"{self.task} ({'symmetric' if self.symmetric else 'asymmetric'}, {self.source})"


# Task names reduced by `_base_name`: without version, "Retrieval", "Reranking", "HardNegatives", "Nano".
_BY_NAME = {
    "quora": TaskPrompt("search result", True),
    "askubuntudupquestions": TaskPrompt("question answering", False),
    "scidocsrr": TaskPrompt("question answering", False),
    "mindsmall": TaskPrompt("semantic similarity", False),
    "arguana": TaskPrompt("semantic similarity", False),
    "stackoverflowdupquestions": TaskPrompt("search result", False),
    "summeval": TaskPrompt("search result", False),
    "climatefever": TaskPrompt("search result", False),
    "fever": TaskPrompt("search result", False),
    "hotpotqa": TaskPrompt("search result", False),
    "treccovid": TaskPrompt("search result", False),
    "dbpedia": TaskPrompt("question answering", False),
    "fiqa2018": TaskPrompt("question answering", False),
    "msmarco": TaskPrompt("question answering", False),
    "nq": TaskPrompt("question answering", False),
    "scidocs": TaskPrompt("question answering", False),
    "touche2020": TaskPrompt("question answering", False),
    "nfcorpus": TaskPrompt("fact checking", False),
    "scifact": TaskPrompt("fact checking", False),
    # The paper gives no string for MIRACL; its queries are questions.
    "miracl": TaskPrompt("question answering", False, "ours"),
}

_BY_TYPE = {
    "Classification": TaskPrompt("classification", True),
    "MultilabelClassification": TaskPrompt("classification", True),
    "PairClassification": TaskPrompt("semantic similarity", True),
    "STS": TaskPrompt("semantic similarity", True),
    "Clustering": TaskPrompt("search result", True),
    "Summarization": TaskPrompt("search result", False),
    "BitextMining": TaskPrompt("semantic similarity", True, "ours"),
    "Retrieval": TaskPrompt("search result", False, "ours"),
    "Reranking": TaskPrompt("search result", False, "ours"),
    "InstructionRetrieval": TaskPrompt("search result", False, "ours"),
    "InstructionReranking": TaskPrompt("search result", False, "ours"),
}

#: Names that stand for several tasks and are not mteb benchmarks of that name.
GROUPS = {"MIRACL": ("MIRACLRetrieval",), "MIRACL-lite": ("MIRACLRetrievalHardNegatives",)}


def task_prompt(name: str, task_type: str) -> TaskPrompt:
    """The prompt of an mteb task: by its name where Table 9 names it, else by its type, else a plain search."""
    base = _base_name(name)
    if base.startswith("cqadupstack"):
        return TaskPrompt("question answering", False)
    if base in _BY_NAME and task_type in {"Retrieval", "Reranking", "Summarization"}:
        return _BY_NAME[base]
    return _BY_TYPE.get(task_type, TaskPrompt("search result", True, "ours"))


def _base_name(name: str) -> str:
    name = re.sub(r"\.v\d+$", "", name)
    name = re.sub(r"^Nano|Summarization$", "", name)
    name = re.sub(r"(Retrieval|Reranking|HardNegatives|Lite)+$", "", name)
    name = {"Touche2020": "touche2020", "SummEval": "summeval", "MIRACLJa": "miracl"}.get(name, name)
    return name.lower()


def prompt_fingerprint() -> str:
    """Changes whenever a prompt changes, so that scores taken under other prompts are not mistaken for current ones."""
    import hashlib

    table = sorted((k, v.task, v.symmetric) for k, v in {**_BY_NAME, **_BY_TYPE}.items())
    return hashlib.sha256(repr(table).encode()).hexdigest()[:12]


def expand_names(names: Iterable[str]) -> list[AbsTask]:
    """mteb tasks from names of benchmarks (``MTEB(eng, v2)``, ``BEIR``, ...), groups (``MIRACL``) and single tasks.

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
