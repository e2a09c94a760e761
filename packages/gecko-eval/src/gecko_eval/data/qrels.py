"""Relevance judgements (qrels) of a BEIR or TREC collection."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import read_lines
from gecko_eval.data.files import only_one
from gecko_eval.data.sets import LARGEST_GRADE

_HEADER_ENDS = {"score", "relevance", "rel", "grade", "label"}
_QUERY = re.compile(r"\W*(q|question|topic|claim|tid)")
_ITERATIONS = {"iteration", "iter", "it", "q0", "0", "unused"}  # TREC's second column
_BLANKS = re.compile(r"[ \t]+")  # other white space may be part of an id
_WHOLE = re.compile(r"[+-]?[0-9]+")  # Python's int() also takes 1_0 and other scripts' digits


def find_qrels(folder: Path, split: str) -> Path:
    """The judgements of a split: ``qrels/<split>.tsv``, the same with .gz, or ``qrels.tsv``.

    Raises:
        DataError: none of them is there, or several are; the line names the splits that are.
    """
    path = only_one([folder / "qrels" / f"{split}.tsv", folder / "qrels" / f"{split}.tsv.gz", folder / "qrels.tsv"])
    if path is not None:
        return path
    names = sorted(path.name for path in (folder / "qrels").glob("*"))
    raise DataError(f"{folder}: no qrels/{split}.tsv (found {', '.join(names) or 'no qrels at all'})")


def read_qrels(path: Path, query_ids: Container[str], doc_ids: Container[str]) -> dict[str, dict[str, int]]:
    """Read query id, document id and grade of every line, or TREC's four columns, which have an iteration second.

    Columns are separated by tabs or blanks; a header line is skipped where there is one.

    Args:
        path: the file, plain or .gz.
        query_ids: the ids in queries.jsonl.
        doc_ids: the ids in corpus.jsonl.

    Returns:
        query id -> document id -> grade, in the order of the file.

    Raises:
        DataError: a line of another form, an unknown id, a grade that is no whole number, a pair with two grades, or
            no grade above 0. The line names file and row.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, cells in _rows(path):
        where = f"{path}:{number}"
        if len(cells) == 4:
            del cells[1]
        if len(cells) != 3:
            raise DataError(f"{where}: expected query id, document id and score, found {len(cells)} columns")
        query_id, doc_id, grade = cells
        if query_id not in query_ids:
            raise DataError(f"{where}: the query {query_id!r} is not in queries.jsonl")
        if doc_id not in doc_ids:
            raise DataError(f"{where}: the document {doc_id!r} is not in corpus.jsonl")
        value = _grade(grade, where)
        judged = qrels.setdefault(query_id, {})
        if judged.setdefault(doc_id, value) != value:
            raise DataError(
                f"{where}: the document {doc_id!r} was judged for the query {query_id!r} before, as "
                f"{judged[doc_id]} and not {value}; keep one of them"
            )
    if not qrels:
        raise DataError(f"{path}: no judgements in it; write one a line: query id, document id, score")
    if not any(grade > 0 for judged in qrels.values() for grade in judged.values()):
        raise DataError(f"{path}: no judgement is above 0; without a relevant document every score is 0")
    return qrels


def judged_queries(path: Path) -> set[str]:
    """The query ids in the first column of a qrels file, unchecked."""
    return {cells[0] for _, cells in _rows(path)}


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a qrels file, without its header and blank lines."""
    has_header = False
    for number, line in read_lines(path):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else _BLANKS.split(line.strip()))]
        if number == 1 and cells and cells[-1].lower() in _HEADER_ENDS:
            _check_header(f"{path}:1", [cell.lower() for cell in cells])
            has_header = True
        elif line.strip():
            if len(cells) == 4 and not has_header and cells[1].lower() not in _ITERATIONS:
                raise DataError(
                    f"{path}:{number}: four columns are those of TREC, the second of them an iteration, such as 0 or "
                    f"Q0, and here it is {cells[1][:40]!r}; leave out what is not query id, document id and score, or "
                    "name the columns in a first line (query-id, iteration, corpus-id, score)"
                )
            yield number, cells


def _check_header(where: str, names: list[str]) -> None:
    """Refuse a header that says of its columns what they are not taken for."""
    if not _QUERY.match(names[0]):
        raise DataError(
            f"{where}: {names[0]!r} comes first; the columns are query-id, corpus-id and score, in this order"
        )
    if len(names) == 4 and names[1] not in _ITERATIONS:
        raise DataError(
            f"{where}: four columns are those of TREC, the second of them an iteration, and here it is {names[1]!r}; "
            f"leave {names[2]!r} out, or what is not query id, document id and score"
        )


def _grade(text: str, where: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise DataError(f"{where}: the score {text[:40]!r} is not a whole number")
    value = int(digits) if len(digits := text.lstrip("+-0") or "0") <= len(str(LARGEST_GRADE)) else LARGEST_GRADE + 1
    if value > LARGEST_GRADE:
        raise DataError(f"{where}: the score {text[:40]} is too large; {LARGEST_GRADE} is the most")
    return -value if text.startswith("-") else value
