"""Reads a judged set without qrels: a table of queries and relevant ids beside a corpus."""

from __future__ import annotations

import re
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import Record, listed, read_table, table_kind
from gecko_eval.data.files import only_one
from gecko_eval.data.own_documents import own_documents
from gecko_eval.data.sets import LARGEST_GRADE, RetrievalSet

#: Columns that look like scores under another name; "relevant_id" is one of the set's own.
_SCORES = re.compile(
    r"score|socre|scroe|relevance|\b(?:rel|gains?|weights?|qrels?|(?:is_)?relevant)\b|grade|rating|label|judg"
)
_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".tsv", ".tsv.gz")


def load_csv(
    queries: str | Path, corpus: str | Path | None = None, *, task: str = "search result", symmetric: bool = False
) -> RetrievalSet:
    """Read a judged set from a table with the columns ``query`` and ``relevant_id``, and optionally ``score``.

    There is one row per relevant document; rows with the same query text are one query.

    Args:
        queries: a .csv, .tsv or .jsonl file, or one of these with .gz.
        corpus: the same kinds of file with ``id`` (or ``_id``), ``text`` and optionally ``title``; by default the file
            called ``corpus`` beside the queries.
        task: the task string of the query prompt.
        symmetric: whether documents get the query's format.

    Raises:
        DataError: a missing file or column, an empty cell, an id that the corpus lacks. The line names file and row.
    """
    queries = Path(queries)
    if not queries.is_file():
        raise DataError(f"{queries}: no such file; expected a CSV with the columns query and relevant_id")
    corpus_path = Path(corpus) if corpus else _corpus_beside(queries)
    documents = _read_corpus(corpus_path)
    qrels: dict[str, dict[str, int]] = {}
    ids: dict[str, str] = {}
    scored: bool | None = None
    for record in read_table(queries, need=("query", "relevant_id"), optional=("query", "relevant_id", "score")):
        where = record.where
        query, doc_id = _asked(record)
        if doc_id not in documents:
            raise DataError(f"{where}: the relevant_id {doc_id!r} is not in {corpus_path}")
        scored = "score" in record.fields if scored is None else scored
        score = _score(record, scored)
        judged = qrels.setdefault(ids.setdefault(query, f"q{len(ids)}"), {})
        if judged.setdefault(doc_id, score) != score:
            raise DataError(f"{where}: {doc_id!r} has another score for this query in an earlier row; keep one of them")
    if not qrels:
        raise DataError(f"{queries}: no rows in it; write one for each query and passage that answers it")
    if not any(score for judged in qrels.values() for score in judged.values()):
        raise DataError(f"{queries}: no score is above 0; without a relevant document every result is 0")
    titles = [title for title, _ in documents.values()]
    stem = queries.name.removesuffix(".gz").rsplit(".", 1)[0]
    return RetrievalSet(
        name=queries.resolve().parent.name if stem == "queries" else stem,
        query_ids=list(ids.values()),
        queries=list(ids),
        doc_ids=list(documents),
        docs=[text for _, text in documents.values()],
        titles=titles if any(titles) else None,
        qrels=qrels,
        task=task,
        symmetric=symmetric,
        notes=own_documents({query_id: text for text, query_id in ids.items()}, documents, qrels)[1],
    )


def _asked(record: Record) -> tuple[str, str]:
    """The query and the id of its document."""
    missing = next((key for key in ("query", "relevant_id") if key not in record.fields), None)
    if missing:
        raise DataError(f"{record.where}: no {missing!r} (found: {listed(record.fields)}); every row needs it")
    query, doc_id = (record.optional_text("query") or "").strip(), record.identifier("relevant_id")
    if not query or not doc_id:
        raise DataError(f"{record.where}: an empty query or relevant_id")
    return query, doc_id


def _score(record: Record, scored: bool) -> int:
    """The row's score; 1 in a table without scores.

    Args:
        record: the row.
        scored: whether the first row has one.
    """
    where = record.where
    if ("score" in record.fields) is not scored:
        raise DataError(f"{where}: {'no' if scored else 'a'} 'score', unlike the first row; give all rows one or none")
    if not scored:
        named = next((name for name in record.fields if _SCORES.search(name.strip().lower())), None)
        if named is not None:
            raise DataError(f"{where}: the column {named!r} is not read; call it 'score', or leave it out")
        return 1
    value = record.fields["score"]
    if isinstance(value, float) and value.is_integer():  # as a column of Parquet, or of pandas, has whole numbers
        value = int(value)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        if value is None or not str(value).strip():
            raise DataError(f"{where}: the score is empty; give one, or leave the row out")
        raise DataError(f"{where}: the score {repr(value)[:40]} is not a whole number of 0 or more")
    if int(text) > LARGEST_GRADE:
        raise DataError(f"{where}: the score {text} is too large; {LARGEST_GRADE} is the most")
    return int(text)


def find_queries(path: Path) -> Path | None:
    """The table of queries that ``path`` names: itself, or ``queries.csv`` or ``.tsv`` (also .gz) in a folder.

    ``queries.jsonl`` in a folder is none: that is BEIR's layout.
    """
    if not path.is_dir():
        return path if table_kind(path) else None
    names = (f"queries{suffix}" for suffix in _SUFFIXES if not suffix.startswith(".jsonl"))
    return only_one([path / name for name in names])


def _corpus_beside(queries: Path) -> Path:
    path = only_one([queries.parent / f"corpus{suffix}" for suffix in _SUFFIXES])
    if path is not None:
        return path
    names = ", ".join(f"corpus{suffix}" for suffix in _SUFFIXES)
    raise DataError(f"{queries.parent}: no {names} beside {queries.name}; name it with --corpus")


def _read_corpus(path: Path) -> dict[str, tuple[str, str]]:
    """Document id -> (title, text)."""
    documents: dict[str, tuple[str, str]] = {}
    for record in read_table(path, need=("text",), optional=("id", "_id", "title", "text")):
        doc_id = record.identifier("id", "_id")
        if doc_id is None:
            raise DataError(f"{record.where}: a document needs an id, found the keys {listed(record.fields)}")
        if doc_id in documents:
            raise DataError(f"{record.where}: the id {doc_id!r} occurs twice; ids must be unique")
        documents[doc_id] = (record.optional_text("title") or "", record.text("text"))
    if not documents:
        raise DataError(f"{path}: no documents in it; write one a row, with id and text")
    return documents
