"""Folders of judged data as mteb tasks: read here, computed by mteb's own code, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import DataError

from .beir import find_file, load_beir, read_jsonl
from .csv_set import load_csv
from .sets import RetrievalSet
from .tasks import TaskPrompt, task_prompt

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

# mteb's numbers of these labels: its average precision takes 1 as the positive class.
_LABELS = {"AmazonCounterfactualClassification": ("not-counterfactual", "counterfactual")}

# What mteb calls these splits.
_SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}


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
        inner = [p for p in sorted(folder.iterdir()) if p.is_dir()]
        for path, name in ((folder, folder.name), *((p, f"{folder.name}-{p.name}") for p in inner)):
            try:
                kind = recognise(path)
            except DataError as e:
                found.append(broken_set(path, name, e))
                continue
            if kind and (path == folder or kind == "Retrieval"):
                found.append(local_set(path, name, folder.name, drop_unjudged))
    return found


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
    if (folder / "queries.csv").is_file():
        return "Retrieval"
    if not there("test.jsonl"):
        return None
    _, row = next(read_jsonl(find_file(folder, "test.jsonl")), ("", {}))
    if {"sentence1", "sentence2", "score"} <= row.keys():
        return "STS"
    if {"sentence1", "sentence2", "label"} <= row.keys():
        return "PairClassification"
    if {"text", "label"} <= row.keys():
        return "Classification" if there("train.jsonl") else "Clustering"
    return None


def local_set(
    folder: str | Path, name: str | None = None, family: str | None = None, drop_unjudged: bool = False
) -> LocalSet:
    """The folder as a task. Its data is read when ``load`` is called.

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
    mteb_name, subset = SAME_AS_MTEB.get(name, (None, "default"))
    prompt = task_prompt(mteb_name, kind) if mteb_name else _PROMPTS.get(family or name, task_prompt(name, kind))

    def load() -> AbsTask:
        if kind == "Retrieval":
            return retrieval_task(_retrieval(folder, name, drop_unjudged), mteb_name)
        return _pairs_or_labels(folder, name, kind, mteb_name, subset)

    return LocalSet(name, folder, kind, mteb_name, prompt, load, lambda: files_fingerprint(folder))


#: What evaluation reads of a folder.
_FILES = ("corpus.jsonl", "corpus.csv", "queries.jsonl", "queries.csv", "train.jsonl", "test.jsonl", "qrels")


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
    if (folder / "queries.csv").is_file():
        return load_csv(folder / "queries.csv")
    return load_beir(folder, name=name, unjudged="drop" if drop_unjudged else "error")


def retrieval_task(data: RetrievalSet, mteb_name: str | None = None) -> AbsTask:
    """mteb's retrieval task on this data: its own class where ``mteb_name`` says the data is the same."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    task = _existing(mteb_name) if mteb_name else _new_task(AbsTaskRetrieval, data.name, "Retrieval", "ndcg_at_10")
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


def _pairs_or_labels(folder: Path, name: str, kind: str, mteb_name: str | None, subset: str) -> AbsTask:
    from datasets import Dataset, DatasetDict

    columns = {}
    for split, mteb_split in _SPLIT_NAMES.items():
        if split == "test" or (kind == "Classification" and split == "train"):
            columns[mteb_split] = _columns(find_file(folder, f"{split}.jsonl"), kind)
    if kind == "Classification":
        _number_labels(columns, _LABELS.get(mteb_name or "", ()))
    splits = {split: Dataset.from_dict(content) for split, content in columns.items()}
    if mteb_name:
        task = _existing(mteb_name, subset)
    elif kind == "STS":
        from mteb.abstasks.sts import AbsTaskSTS

        scores = splits["test"]["score"]
        task = _new_task(
            AbsTaskSTS, name, kind, "cosine_spearman", min_score=int(min(scores)), max_score=max(1, round(max(scores)))
        )
    elif kind == "PairClassification":
        from mteb.abstasks.pair_classification import AbsTaskPairClassification

        task = _new_task(AbsTaskPairClassification, name, kind, "max_ap")
    elif kind == "Classification":
        from mteb.abstasks.classification import AbsTaskClassification

        task = _new_task(AbsTaskClassification, name, kind, "accuracy")
    else:
        from mteb.abstasks.clustering import AbsTaskClustering

        task = _new_task(
            AbsTaskClustering,
            name,
            kind,
            "v_measure",
            max_fraction_of_documents_to_embed=None,
            max_document_to_embed=4096,
            max_documents_per_cluster=4096,
        )
    data = DatasetDict(splits)
    task.dataset = data if subset == "default" else {subset: data}
    task.data_loaded = True
    return task


def _number_labels(splits: dict[str, dict[str, list[Any]]], order: tuple[str, ...]) -> None:
    """Label names become numbers, as in mteb's own sets; its metrics for two classes ask for 0 and 1."""
    names = {label for columns in splits.values() for label in columns["label"]}
    if any(isinstance(name, str) for name in names):
        number = {name: i for i, name in enumerate(order if set(order) == names else sorted(names, key=str))}
        for columns in splits.values():
            columns["label"] = [number[label] for label in columns["label"]]


_COLUMNS: dict[str, dict[str, tuple[str, type | tuple[type, ...]]]] = {
    "STS": {"sentence1": ("sentence1", str), "sentence2": ("sentence2", str), "score": ("score", (int, float))},
    "PairClassification": {"sentence1": ("sentence1", str), "sentence2": ("sentence2", str), "labels": ("label", int)},
    "Classification": {"text": ("text", str), "label": ("label", (str, int))},
    "Clustering": {"sentences": ("text", str), "labels": ("label", (str, int))},
}


def _columns(path: Path, kind: str) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {column: [] for column in _COLUMNS[kind]}
    for where, row in read_jsonl(path):
        for column, (key, wanted) in _COLUMNS[kind].items():
            if not isinstance(row.get(key), wanted):
                raise DataError(f"{where}: the key {key!r} is {'missing' if key not in row else 'of the wrong type'}")
            columns[column].append(row[key])
    if not next(iter(columns.values())):
        raise DataError(f"{path}: no rows in it")
    return columns


def _existing(mteb_name: str, subset: str = "default") -> Any:
    import mteb

    if subset == "default":
        return mteb.get_task(mteb_name, eval_splits=["test"])
    return mteb.get_task(mteb_name, eval_splits=["test"], hf_subsets=[subset])


def _new_task(base: type, name: str, kind: str, main_score: str, **attributes: Any) -> Any:
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
