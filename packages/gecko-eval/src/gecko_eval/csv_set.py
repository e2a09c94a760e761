"""A judged set from a table of (query, relevant id) and a corpus: what people have at hand before they have qrels."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from gecko_core.errors import DataError

from .beir import open_text, read_jsonl
from .sets import RetrievalSet

CORPUS_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.csv")


def load_csv(
    queries: str | Path, corpus: str | Path | None = None, *, task: str = "search result", symmetric: bool = False
) -> RetrievalSet:
    """Reads a CSV with the columns ``query`` and ``relevant_id`` (one row per relevant document; optional ``score``).

    Rows with the same query text are one query. ``corpus`` is a .jsonl or .csv with ``id`` (or ``_id``), ``text`` and
    optionally ``title``; by default ``corpus.jsonl`` or ``corpus.csv`` beside the queries.

    Raises:
        DataError: a missing file or column, an empty cell, an id that the corpus lacks.
    """
    queries = Path(queries)
    if not queries.is_file():
        raise DataError(f"{queries}: no such file; expected a CSV with the columns query and relevant_id")
    corpus_path = Path(corpus) if corpus else _corpus_beside(queries)
    documents = _read_corpus(corpus_path)
    qrels: dict[str, dict[str, int]] = {}
    ids: dict[str, str] = {}
    for where, row in _read_csv(queries, ("query", "relevant_id")):
        query, doc_id = row["query"].strip(), row["relevant_id"].strip()
        if not query or not doc_id:
            raise DataError(f"{where}: an empty query or relevant_id")
        if doc_id not in documents:
            raise DataError(f"{where}: the relevant_id {doc_id!r} is not in {corpus_path}")
        score = row.get("score") or "1"
        if not score.strip().isdigit():
            raise DataError(f"{where}: the score {score!r} is not a whole number of 0 or more")
        qrels.setdefault(ids.setdefault(query, f"q{len(ids)}"), {})[doc_id] = int(score)
    if not qrels:
        raise DataError(f"{queries}: no rows in it")
    titles = [title for title, _ in documents.values()]
    return RetrievalSet(
        name=queries.parent.name if queries.stem == "queries" else queries.stem,
        query_ids=list(ids.values()),
        queries=list(ids),
        doc_ids=list(documents),
        docs=[text for _, text in documents.values()],
        titles=titles if any(titles) else None,
        qrels=qrels,
        task=task,
        symmetric=symmetric,
    )


def _corpus_beside(queries: Path) -> Path:
    for name in CORPUS_NAMES:
        if (queries.parent / name).is_file():
            return queries.parent / name
    raise DataError(f"{queries.parent}: no {', '.join(CORPUS_NAMES)} beside {queries.name}; name it with --corpus")


def _read_corpus(path: Path) -> dict[str, tuple[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows = _read_csv(path, ("text",)) if path.suffix == ".csv" else read_jsonl(path)
    documents: dict[str, tuple[str, str]] = {}
    for where, row in rows:
        doc_id = row.get("id", row.get("_id"))
        if doc_id is None or not isinstance(row.get("text"), str):
            raise DataError(f"{where}: a document needs id and text, found the keys {', '.join(row)}")
        if str(doc_id) in documents:
            raise DataError(f"{where}: the id {doc_id!r} occurs twice; ids must be unique")
        documents[str(doc_id)] = (row.get("title") or "", row["text"])
    return documents


def _read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(line + "\n" for _, line in open_text(path))
    missing = [c for c in columns if c not in (reader.fieldnames or [])]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} (found {', '.join(reader.fieldnames or []) or 'none'})")
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if None in row.values() or None in row:
            raise DataError(f"{where}: {len(reader.fieldnames or [])} columns expected; is a comma unquoted?")
        yield where, row
