"""The two text formats of the paper, and the task string of each evaluation task.

A query, and both sides of a symmetric task, become `task: {task} | query: {text}`. The passage side of an asymmetric
task becomes `title: {title} | text: {text}`, with `none` where there is no title (Lee et al. 2024, section 3.3; `none`
as later models of the family write it). Training, encoding and evaluation all use this file.
"""

from __future__ import annotations

from dataclasses import dataclass

from gecko_core.errors import DataError

__all__ = ["DEFAULT_TASK", "NO_TITLE", "TASKS", "Task", "format_document", "format_query", "saved_prompts"]

DEFAULT_TASK = "search result"
NO_TITLE = "none"


@dataclass(frozen=True)
class Task:
    """The task string of an evaluation task, and whether both of its sides are written as queries."""

    text: str
    symmetric: bool


_CLASSIFICATION = Task("classification", symmetric=True)
_SIMILARITY = Task("semantic similarity", symmetric=True)
_SIMILARITY_TO_PASSAGE = Task("semantic similarity", symmetric=False)
_SEARCH_BOTH = Task("search result", symmetric=True)
_SEARCH = Task("search result", symmetric=False)
_ANSWER = Task("question answering", symmetric=False)
_FACT = Task("fact checking", symmetric=False)

_CQADUPSTACK = (
    *("Android", "English", "Gaming", "Gis", "Mathematica", "Physics", "Programmers", "Stats", "Tex", "Unix"),
    *("Webmasters", "Wordpress"),
)

TASKS: dict[str, Task] = {
    # Kinds of task, by mteb's names.
    "Classification": _CLASSIFICATION,
    "MultilabelClassification": _CLASSIFICATION,
    "PairClassification": _SIMILARITY,
    "STS": _SIMILARITY,
    "BitextMining": _SIMILARITY,
    "Clustering": _SEARCH_BOTH,
    "Summarization": _SEARCH,
    "Reranking": _SEARCH,
    "Retrieval": _SEARCH,
    "InstructionRetrieval": _SEARCH,
    "InstructionReranking": _SEARCH,
    # Single tasks (paper, Table 9; it gives no string for MIRACL, whose queries are questions), by mteb's names.
    "QuoraRetrieval": _SEARCH_BOTH,
    "AskUbuntuDupQuestions": _ANSWER,
    "SciDocsRR": _ANSWER,
    "MindSmallReranking": _SIMILARITY_TO_PASSAGE,
    "ArguAna": _SIMILARITY_TO_PASSAGE,
    "StackOverflowDupQuestions": _SEARCH,
    "SummEval": _SEARCH,
    "SummEvalSummarization.v2": _SEARCH,
    "ClimateFEVER": _SEARCH,
    "ClimateFEVER.v2": _SEARCH,
    "ClimateFEVERHardNegatives": _SEARCH,
    "FEVER": _SEARCH,
    "FEVERHardNegatives": _SEARCH,
    "HotpotQA": _SEARCH,
    "HotpotQAHardNegatives": _SEARCH,
    "TRECCOVID": _SEARCH,
    "CQADupstackRetrieval": _ANSWER,
    **{f"CQADupstack{forum}Retrieval": _ANSWER for forum in _CQADUPSTACK},
    "DBPedia": _ANSWER,
    "FiQA2018": _ANSWER,
    "MSMARCO": _ANSWER,
    "NQ": _ANSWER,
    "SCIDOCS": _ANSWER,
    "Touche2020": _ANSWER,
    "Touche2020Retrieval.v3": _ANSWER,
    "MIRACLRetrieval": _ANSWER,
    "MIRACLRetrievalHardNegatives": _ANSWER,
    "MIRACLReranking": _ANSWER,
    "NFCorpus": _FACT,
    "SciFact": _FACT,
}
"""Task by mteb name, first of kinds of task, then of single tasks. A single task's entry wins over its kind's."""


def format_query(text: str, task: str = DEFAULT_TASK) -> str:
    """Format the query side, and both sides of a symmetric task: ``task: {task} | query: {text}``.

    Raises:
        DataError: something that is not str.
    """
    _check(text=text, task=task)
    return f"task: {task} | query: {text}"


def format_document(text: str, title: str | None = None) -> str:
    """Format the passage side of an asymmetric task: ``title: {title} | text: {text}``, with ``none`` for no title.

    Raises:
        DataError: something that is not str.
    """
    _check(text=text, title="" if title is None else title)
    return f"title: {title or NO_TITLE} | text: {text}"


def _check(**texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{name} is {type(text).__name__}, not str")


def saved_prompts() -> dict[str, str]:
    """Return prefixes by the names that sentence-transformers and mteb look up.

    sentence-transformers: `query` and `document`. mteb, first hit wins: `{task}-query`, `{task}`, `{kind}-query`,
    `{kind}`, `query` (and the same with `document`). A prefix cannot carry a title, so documents say `title: none`.
    """
    prompts = {"query": format_query(""), "document": format_document("")}
    for name, task in TASKS.items():
        if task.symmetric:
            prompts[name] = format_query("", task.text)
        else:
            prompts[f"{name}-query"] = format_query("", task.text)
            prompts[f"{name}-document"] = format_document("")
    # mteb encodes both sides of a summarization task without saying which is which.
    prompts["Summarization"] = format_query("", TASKS["Summarization"].text)
    return prompts
