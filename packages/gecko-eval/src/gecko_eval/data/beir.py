"""Reads a folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each plain or gzipped."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import below_data_dir, read_table
from gecko_eval.data.files import find_file
from gecko_eval.data.own_documents import own_documents
from gecko_eval.data.qrels import find_qrels, judged_queries, read_qrels
from gecko_eval.data.sets import RetrievalSet


def load_beir(
    folder: str | Path,
    split: str = "test",
    *,
    name: str | None = None,
    task: str = "search result",
    symmetric: bool = False,
    ignore_identical_ids: bool | None = None,
    unjudged: Literal["error", "drop"] = "error",
) -> RetrievalSet:
    """Read a judged set from a BEIR folder, which may also lie below GECKO_DATA_DIR.

    ``queries.jsonl`` commonly holds the queries of every split; those judged in another split are left out. A query
    that is judged in no split is an error, or is left out with ``unjudged="drop"``.

    Args:
        folder: the BEIR folder.
        split: which file of ``qrels/`` to use.
        name: what the set is called; the folder's name by default.
        task: the task string of the query prompt.
        symmetric: whether documents get the query's format.
        ignore_identical_ids: whether a document with its query's own id is left out of the ranking; None: where it
            is the query itself, see :func:`~gecko_eval.data.own_documents.own_documents`.
        unjudged: what to do about queries that are judged in no split.

    Raises:
        ConfigError: ``unjudged`` is something else.
        DataError: a missing or broken file, two files of which one would be read, a line that is not a JSON object, a
            repeated or unknown id, a query without judgement. The line names the file and the row.
    """
    if unjudged not in ("error", "drop"):
        raise ConfigError(f"unjudged must be 'error' or 'drop', not {unjudged!r}")
    folder = below_data_dir(folder)
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/{split}.tsv")
    documents = _read_texts(find_file(folder, "corpus.jsonl"), "document", "documents", titles=True)
    queries_path = find_file(folder, "queries.jsonl")
    queries = _read_texts(queries_path, "query", "queries")
    qrels = read_qrels(find_qrels(folder, split), queries, documents)
    if unjudged == "error":
        _check_judged(folder, split, queries_path, [query_id for query_id in queries if query_id not in qrels])
    query_ids = [query_id for query_id in queries if query_id in qrels]
    titles = [title for title, _ in documents.values()]
    judged = {query_id: queries[query_id][1] for query_id in query_ids}
    leave_out, notes = own_documents(judged, documents, qrels) if ignore_identical_ids is None else (False, ())
    return RetrievalSet(
        name=name or folder.resolve().name,
        query_ids=query_ids,
        queries=[queries[query_id][1] for query_id in query_ids],
        doc_ids=list(documents),
        docs=[text for _, text in documents.values()],
        titles=titles if any(titles) else None,
        qrels=qrels,
        task=task,
        symmetric=symmetric,
        ignore_identical_ids=leave_out if ignore_identical_ids is None else ignore_identical_ids,
        notes=notes,
    )


def _read_texts(path: Path, what: str, plural: str, titles: bool = False) -> dict[str, tuple[str, str]]:
    """Id -> (title, text) of a corpus or of queries."""
    texts: dict[str, tuple[str, str]] = {}
    for record in read_table(path, optional=("_id", "title", "text") if titles else ("_id", "text")):
        text_id = record.identifier("_id")
        if text_id is None:
            raise DataError(f"{record.where}: '_id' is {'empty' if '_id' in record.fields else 'missing'}")
        if text_id in texts:
            raise DataError(f"{record.where}: the {what} id {text_id!r} occurs twice; ids must be unique")
        texts[text_id] = ((record.optional_text("title") or "") if titles else "", record.text("text"))
    if not texts:
        raise DataError(f"{path}: no {plural} in it; write one a line, with _id and text")
    return texts


def _check_judged(folder: Path, split: str, queries_path: Path, bare: list[str]) -> None:
    if not bare:
        return
    others = (path for path in (folder / "qrels").glob("*.tsv*") if not path.name.startswith(f"{split}.tsv"))
    elsewhere: set[str] = set().union(*map(judged_queries, others))
    bare = [query_id for query_id in bare if query_id not in elsewhere]
    if bare:
        raise DataError(
            f"{queries_path}: {len(bare)} queries have no judgement in any file of {folder / 'qrels'} "
            f"(the first is {bare[0]!r}); add judgements, remove them, or leave them out with --drop-unjudged "
            "(unjudged='drop' in Python)"
        )
