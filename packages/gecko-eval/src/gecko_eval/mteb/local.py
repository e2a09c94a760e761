"""Folders of judged data as mteb tasks: read here, computed by mteb's own code, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gecko_core.errors import DataError
from gecko_core.io import read_table
from gecko_eval.data.beir import find_file, load_beir
from gecko_eval.data.csv_set import find_queries, load_csv
from gecko_eval.data.labelled import existing_task, labelled_task, new_task
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.mteb.tasks import TaskPrompt, task_prompt

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

#: Folders whose content is mteb's own, so that scores compare with the public ones: folder -> (task, subset).
SAME_AS_MTEB = {
    "scifact": ("SciFact", "default"),
    "stsb": ("STSBenchmark", "default"),
    "sts12": ("STS12", "default"),
    "sts13": ("STS13", "default"),
    "sts14": ("STS14", "default"),
    "sts15": ("STS15", "default"),
    "sts16": ("STS16", "default"),
    "banking77": ("Banking77Classification", "default"),
    "emotion": ("EmotionClassification", "default"),
    "amazon_counterfactual": ("AmazonCounterfactualClassification", "en"),
}

#: Folders reduced from a task that the paper's table names, or of a kind it names.
_PROMPTS = {
    "cisi": TaskPrompt("search result", False, "ours"),
    "dbpedia_5k": TaskPrompt("question answering", False),
    "fiqa_gold": TaskPrompt("question answering", False),
    "hotpotqa_sample": TaskPrompt("search result", False),
    "msmarco_5k": TaskPrompt("question answering", False),
    "tydiqa": TaskPrompt("question answering", False, "ours"),
    "xquad": TaskPrompt("question answering", False, "ours"),
}


@dataclass(frozen=True)
class LocalSet:
    """A folder recognised as evaluation data. ``mteb_name`` is set where scores compare with mteb's public ones.

    ``fingerprint`` changes with the content of the data.
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

    Raises:
        DataError: ``root`` is not a folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder (from GECKO_DATA_DIR or --local)")
    found = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        try:
            inner = [p for p in sorted(folder.iterdir()) if p.is_dir()]
        except OSError as e:
            why = DataError(f"{folder}: cannot be read ({e.strerror})")
            found.append(broken_set(folder, _printable(folder.name), why))
            continue
        for path, name in ((folder, folder.name), *((p, f"{folder.name}-{p.name}") for p in inner)):
            name = _printable(name)
            try:
                kind = recognise(path)
            except DataError as e:
                found.append(broken_set(path, name, e))
                continue
            if kind and (path == folder or kind == "Retrieval"):
                found.append(local_set(path, name, folder.name, drop_unjudged))
    return found


def _printable(name: str) -> str:
    """A folder's name may be any bytes; those that are not UTF-8 are shown as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def broken_set(folder: Path, name: str, why: DataError) -> LocalSet:
    """A folder that cannot be read: it fails with ``why`` when it is run, and the others do not."""

    def load() -> AbsTask:
        raise why

    prompt = TaskPrompt("search result", False, "ours")
    return LocalSet(name, folder, "unreadable", None, prompt, load, lambda: "")


def recognise(folder: Path) -> str | None:
    """mteb's task type of a folder, from its files; None where there is nothing to evaluate.

    ``corpus`` + ``queries`` + ``qrels/test.tsv``: retrieval. ``test.jsonl`` with sentence1, sentence2 and score: STS;
    with sentence1, sentence2 and label: pair classification; with text and label: classification where a
    ``train.jsonl`` stands beside it, else clustering.
    """

    def there(name: str) -> bool:
        return (folder / name).is_file() or (folder / f"{name}.gz").is_file()

    if there("corpus.jsonl") and there("queries.jsonl") and there("qrels/test.tsv"):
        return "Retrieval"
    if find_queries(folder):
        return "Retrieval"
    if not there("test.jsonl"):
        return None
    row = next((record.fields for record in read_table(find_file(folder, "test.jsonl"))), {})
    if {"sentence1", "sentence2", "score"} <= row.keys():
        return "STS"
    if {"sentence1", "sentence2", "label"} <= row.keys():
        return "PairClassification"
    if {"text", "label"} <= row.keys():
        return "Classification" if there("train.jsonl") else "Clustering"
    return None


def local_set(
    folder: str | Path,
    name: str | None = None,
    family: str | None = None,
    drop_unjudged: bool = False,
    *,
    own: bool = False,
) -> LocalSet:
    """The folder as a task. Its data is read when ``load`` is called.

    ``own``: a user's own data, which is not mteb's whatever its folder is called.

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
    name = name or folder.resolve().name
    mteb_name, subset = (None, "default") if own else SAME_AS_MTEB.get(name, (None, "default"))
    prompt = task_prompt(mteb_name, kind) if mteb_name else _PROMPTS.get(family or name, task_prompt(name, kind))

    def load() -> AbsTask:
        if kind == "Retrieval":
            return retrieval_task(_retrieval(folder, name, drop_unjudged), mteb_name)
        return labelled_task(folder, name, kind, mteb_name, subset)

    return LocalSet(name, folder, kind, mteb_name, prompt, load, lambda: files_fingerprint(folder))


#: What evaluation reads of a folder.
_FILES = (
    *("corpus.jsonl", "corpus.csv", "corpus.tsv", "queries.jsonl", "queries.csv", "queries.tsv"),
    *("train.jsonl", "test.jsonl", "qrels"),
)


def files_fingerprint(folder: Path) -> str:
    """Changes with the content of any file that evaluation reads."""
    digest = hashlib.sha256()
    for name in _FILES:
        found = sorted((folder / name).glob("*")) if name == "qrels" else [folder / name, folder / f"{name}.gz"]
        for path in found:
            if path.is_file():
                with path.open("rb") as f:
                    digest.update(path.name.encode() + hashlib.file_digest(f, "sha256").digest())
    return digest.hexdigest()[:16]


def from_retrieval_set(data: RetrievalSet, folder: Path) -> LocalSet:
    """A judged set already in memory, as a task under its own prompt."""
    prompt = TaskPrompt(data.task, data.symmetric, "yours")
    return LocalSet(data.name, folder, "Retrieval", None, prompt, lambda: retrieval_task(data), data.fingerprint)


def _retrieval(folder: Path, name: str, drop_unjudged: bool) -> RetrievalSet:
    table = find_queries(folder)
    if table:
        return load_csv(table)
    return load_beir(folder, name=name, unjudged="drop" if drop_unjudged else "error")


def retrieval_task(data: RetrievalSet, mteb_name: str | None = None) -> AbsTask:
    """mteb's retrieval task on this data: its own class where ``mteb_name`` says the data is the same."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    task = existing_task(mteb_name) if mteb_name else new_task(AbsTaskRetrieval, data.name, "Retrieval", "ndcg_at_10")
    titles = list(data.titles) if data.titles is not None else [""] * len(data.docs)
    if data.ignore_identical_ids:
        task.ignore_identical_ids = True
    task.dataset = {
        "default": {
            "test": {
                "corpus": Dataset.from_dict({"id": list(data.doc_ids), "title": titles, "text": list(data.docs)}),
                "queries": Dataset.from_dict({"id": list(data.query_ids), "text": list(data.queries)}),
                "relevant_docs": {q: dict(judged) for q, judged in data.qrels.items()},
                "top_ranked": None,
            }
        }
    }
    task.data_loaded = True
    return task
