"""A judged set from a table of (query, relevant id) and a corpus: what people have at hand before they have qrels."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from gecko_core.errors import DataError
from gecko_eval.data.beir import open_text, read_jsonl
from gecko_eval.data.sets import RetrievalSet

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
        if not (score.strip().isascii() and score.strip().isdigit() and len(score.strip()) < 10):
            raise DataError(f"{where}: the score {score!r} is not a whole number of 0 or more")
        judged = qrels.setdefault(ids.setdefault(query, f"q{len(ids)}"), {})
        if judged.get(doc_id, int(score)) != int(score):
            raise DataError(f"{where}: {doc_id!r} has another score for this query in an earlier row; keep one of them")
        judged[doc_id] = int(score)
    if not qrels:
        raise DataError(f"{queries}: no rows in it")
    if not any(score for judged in qrels.values() for score in judged.values()):
        raise DataError(f"{queries}: no score is above 0; without a relevant document every result is 0")
    titles = [title for title, _ in documents.values()]
    return RetrievalSet(
        name=queries.resolve().parent.name if queries.stem == "queries" else queries.stem,
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
    rows = _read_csv(path, ("text",)) if path.suffix.lower() == ".csv" else read_jsonl(path)
    documents: dict[str, tuple[str, str]] = {}
    for where, row in rows:
        doc_id, title = row.get("id", row.get("_id")), row.get("title") or ""
        if not isinstance(row.get("text"), str) or doc_id in (None, ""):
            raise DataError(f"{where}: a document needs id and text, found the keys {', '.join(row)}")
        if not isinstance(doc_id, (str, int)) or isinstance(doc_id, bool) or not isinstance(title, str):
            raise DataError(f"{where}: id and title must be text (an id may be a whole number)")
        if str(doc_id) in documents:
            raise DataError(f"{where}: the id {doc_id!r} occurs twice; ids must be unique")
        documents[str(doc_id)] = (title, row["text"])
    if not documents:
        raise DataError(f"{path}: no documents in it")
    return documents


def _read_csv(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses documents over 128 kB
    reader = csv.DictReader(line + "\n" for _, line in open_text(path))
    try:
        names = list(reader.fieldnames or [])
        missing = [c for c in columns if c not in names]
        if missing:
            separator = next((s for s in (";", "\t", "|") if len(names) == 1 and s in names[0]), None)
            hint = f"; columns are separated by commas, not by {separator!r}" if separator else ""
            raise DataError(f"{path}: no column {missing[0]!r} (found {', '.join(names) or 'none'}){hint}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row.values() or None in row:
                raise DataError(f"{where}: {len(names)} columns expected; is a comma or a quote unquoted?")
            yield where, row
    except csv.Error as e:
        raise DataError(f"{path}:{reader.line_num}: not CSV ({e})") from e
