"""Reads a folder in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each plain or gzipped."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from gecko_core.errors import DataError
from gecko_eval.data.sets import RetrievalSet


def load_beir(
    folder: str | Path,
    split: str = "test",
    *,
    name: str | None = None,
    task: str = "search result",
    symmetric: bool = False,
    ignore_identical_ids: bool = False,
    unjudged: Literal["error", "drop"] = "error",
) -> RetrievalSet:
    """A judged set from a BEIR folder, which may also lie below GECKO_DATA_DIR.

    ``queries.jsonl`` commonly holds the queries of every split; those judged in another split are left out. A query
    judged nowhere is a mistake worth knowing of: an error, or left out with ``unjudged="drop"``.

    Raises:
        DataError: a missing or broken file, a line that is not a JSON object, a repeated or unknown id, a query without
            judgement. The line names the file and the row.
    """
    folder = below_data_dir(folder)
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}; a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/{split}.tsv")
    corpus_path, queries_path = find_file(folder, "corpus.jsonl"), find_file(folder, "queries.jsonl")
    doc_ids: dict[str, None] = {}
    titles, docs = [], []
    for where, row in read_jsonl(corpus_path):
        doc_id = _text(row, "_id", where)
        if doc_id in doc_ids:
            raise DataError(f"{where}: the document id {doc_id!r} occurs twice; ids must be unique")
        doc_ids[doc_id] = None
        titles.append(_text(row, "title", where, optional=True))
        docs.append(_text(row, "text", where))
    if not docs:
        raise DataError(f"{corpus_path}: no documents in it")
    all_queries = {}
    for where, row in read_jsonl(queries_path):
        query_id = _text(row, "_id", where)
        if query_id in all_queries:
            raise DataError(f"{where}: the query id {query_id!r} occurs twice; ids must be unique")
        all_queries[query_id] = _text(row, "text", where)
    if not all_queries:
        raise DataError(f"{queries_path}: no queries in it")
    qrels = read_qrels(_qrels_path(folder, split), all_queries.keys(), doc_ids.keys())
    bare = [q for q in all_queries if q not in qrels]
    if bare and unjudged == "error":
        elsewhere = _judged_elsewhere(folder, split)
        bare = [q for q in bare if q not in elsewhere]
        if bare:
            raise DataError(
                f"{queries_path}: {len(bare)} queries have no judgement in any file of {folder / 'qrels'} "
                f"(the first is {bare[0]!r}); add judgements, remove them, or leave them out with --drop-unjudged "
                "(unjudged='drop' in Python)"
            )
    query_ids = [q for q in all_queries if q in qrels]
    return RetrievalSet(
        name=name or folder.resolve().name,
        query_ids=query_ids,
        queries=[all_queries[q] for q in query_ids],
        doc_ids=list(doc_ids),
        docs=docs,
        titles=titles if any(titles) else None,
        qrels=qrels,
        task=task,
        symmetric=symmetric,
        ignore_identical_ids=ignore_identical_ids,
    )


def below_data_dir(path: str | Path) -> Path:
    """The path as it is where it exists, else below GECKO_DATA_DIR where that has it."""
    path, root = Path(path), os.environ.get("GECKO_DATA_DIR")
    return Path(root) / path if root and not path.exists() and (Path(root) / path).exists() else path


def find_file(folder: Path, name: str) -> Path:
    """``folder/name`` or ``folder/name.gz``."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder}: neither {name} nor {name}.gz is there")


def open_text(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) of a UTF-8 file, unzipped where its name ends in .gz."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=None) as lines:  # type: ignore[operator]
            for number, line in enumerate(lines, 1):
                yield number, line.rstrip("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: not UTF-8 after line {number} ({e.reason}); convert the file to UTF-8") from e
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path}: cannot be read after line {number} ({e})") from e


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """("file:line", object) of every line; blank lines are passed over."""
    for number, line in open_text(path):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise DataError(f"{where}: not JSON ({e})") from e
        if not isinstance(row, dict):
            raise DataError(f"{where}: expected a JSON object, found {type(row).__name__}")
        if "\\ud" in line or "\\uD" in line:  # only an escape brings half a surrogate pair into UTF-8
            _check_surrogates(row, where)
        yield where, row


def _check_surrogates(row: dict[str, Any], where: str) -> None:
    for key, value in row.items():
        try:
            str(value).encode()
        except UnicodeEncodeError as e:
            raise DataError(f"{where}: {key!r} holds half of a surrogate pair, which is no character; remove it") from e


_LARGEST_GRADE = 2**31 - 1  # trec_eval's


def read_qrels(path: Path, query_ids: Any, doc_ids: Any) -> dict[str, dict[str, int]]:
    """Judgements of a tab-separated file: query id, document id, grade; or TREC's four columns. A header is skipped."""
    qrels: dict[str, dict[str, int]] = {}
    for number, line in open_text(path):
        cells = line.split("\t") if "\t" in line else line.split()
        if not line.strip() or (number == 1 and cells[-1].strip().lower() in {"score", "relevance", "rel"}):
            continue
        if len(cells) == 4:
            cells = [cells[0], cells[2], cells[3]]
        if len(cells) != 3:
            raise DataError(f"{path}:{number}: expected query id, document id and score, found {len(cells)} columns")
        query_id, doc_id, grade = (c.strip() for c in cells)
        if query_id not in query_ids:
            raise DataError(f"{path}:{number}: the query {query_id!r} is not in queries.jsonl")
        if doc_id not in doc_ids:
            raise DataError(f"{path}:{number}: the document {doc_id!r} is not in corpus.jsonl")
        try:
            value = int(grade)
        except ValueError as e:
            raise DataError(f"{path}:{number}: the score {grade!r} is not a whole number") from e
        if abs(value) > _LARGEST_GRADE:
            raise DataError(f"{path}:{number}: the score {grade} is too large; {_LARGEST_GRADE} is the most")
        judged = qrels.setdefault(query_id, {})
        if judged.get(doc_id, value) != value:
            raise DataError(
                f"{path}:{number}: the document {doc_id!r} was judged for the query {query_id!r} before, as "
                f"{judged[doc_id]} and not {value}; keep one of them"
            )
        judged[doc_id] = value
    if not qrels:
        raise DataError(f"{path}: no judgements in it")
    if not any(grade > 0 for judged in qrels.values() for grade in judged.values()):
        raise DataError(f"{path}: no judgement is above 0; without a relevant document every score is 0")
    return qrels


def _qrels_path(folder: Path, split: str) -> Path:
    choices = [folder / "qrels" / f"{split}.tsv", folder / "qrels" / f"{split}.tsv.gz", folder / "qrels.tsv"]
    for path in choices:
        if path.is_file():
            return path
    there = sorted(p.name for p in (folder / "qrels").glob("*")) if (folder / "qrels").is_dir() else []
    raise DataError(f"{folder}: no qrels/{split}.tsv (found {', '.join(there) or 'no qrels at all'})")


def _judged_elsewhere(folder: Path, split: str) -> set[str]:
    others = (p for p in (folder / "qrels").glob("*.tsv*") if not p.name.startswith(f"{split}.tsv"))
    return {line.split("\t")[0].strip() for path in others for _, line in open_text(path)}


def _text(row: dict[str, Any], key: str, where: str, optional: bool = False) -> str:
    value = row.get(key, "" if optional else None)
    if optional and value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and key == "_id":
        return str(value)
    if key == "_id" and value == "":
        raise DataError(f"{where}: the key '_id' is empty")
    if not isinstance(value, str):
        raise DataError(f"{where}: the key {key!r} is {'missing' if key not in row else 'not a string'}")
    return value
