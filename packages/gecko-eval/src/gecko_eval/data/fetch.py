"""Judged sets of the Hugging Face hub as BEIR folders."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import HUB, Progress, Record, make_progress, read_hub, refuse_link, whole_folder
from gecko_core.randomness import generator

#: Names of a judged set's tables on the hub, as mteb's repositories have them; those of judgements are "default" there.
_CORPUS, _QUERIES, _QRELS = "corpus", "queries", "default"


def fetch_beir(
    name: str,
    out: str | Path,
    *,
    splits: Collection[str] = ("test",),
    documents: int | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> dict[str, int]:
    """Write a judged set of the hub as a BEIR folder: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.

    The hub's repository has its tables as mteb's do (``mteb/scifact``): configurations ``corpus``, ``queries`` and
    ``default``, the judgements, whose splits are named here.

    Args:
        name: repository, such as ``mteb/scifact``.
        out: folder to write; there must be none yet.
        splits: of the judgements; queries that none of them judges are left out.
        documents: most documents. Those that any of the splits judges are kept, all of them, and others are drawn at
            random: scores on such a sample are higher than, and not comparable with, those on the whole.
        seed: of the draw.
        progress: where to report; True: to stderr. The hub does not say how many documents there are before they have
            been read, which is done twice.

    Returns:
        Rows of the corpus, the queries and the judgements of each split.

    Raises:
        ConfigError: no split, or the folder is there already.
        DataError: the hub or one of the tables cannot be read, or a judged document is missing.
    """
    out = Path(out)
    if not splits:
        raise ConfigError("no split is named; name those of the judgements, such as test")
    refuse_link(out)
    if out.exists():
        raise ConfigError(f"{out}: there already; name a folder that is not, or delete it")
    judgements = {split: list(_judgements(name, split)) for split in dict.fromkeys(splits)}
    asked = {query for rows in judgements.values() for query, _, _ in rows}
    judged = {document for rows in judgements.values() for _, document, _ in rows}
    counts = {split: len(rows) for split, rows in judgements.items()}
    with whole_folder(out) as folder:
        counts["corpus"] = _write_corpus(
            name, folder / "corpus.jsonl", judged, documents, seed, make_progress(progress)
        )
        queries = ({"_id": i, "text": r.text("text")} for i, r in _identified(name, _QUERIES) if i in asked)
        counts["queries"] = _write_lines(folder / "queries.jsonl", queries)
        if counts["queries"] < len(asked):
            raise DataError(f"{HUB}{name}: {len(asked) - counts['queries']} judged queries are not in its queries")
        (folder / "qrels").mkdir()
        for split, rows in judgements.items():
            lines = "".join(f"{query}\t{document}\t{grade}\n" for query, document, grade in rows)
            (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{lines}", encoding="utf-8")
    return counts


def _judgements(name: str, split: str) -> Iterator[tuple[str, str, int]]:
    for record in read_hub(name, split, config=_QRELS):
        query, document = record.identifier("query-id"), record.identifier("corpus-id")
        grade = _whole(record.fields.get("score"))
        if query is None or document is None or grade is None:
            raise DataError(
                f"{record.where}: needs query-id, corpus-id and a whole score; give a set with mteb's tables"
            )
        for identifier in (query, document):
            if "\t" in identifier or len(identifier.splitlines()) > 1:
                raise DataError(
                    f"{record.where}: the id {identifier!r} has a tab or a line's end in it, and judgements are lines "
                    "with tabs; such a set cannot be laid out as BEIR's"
                )
        yield query, document, grade


def _whole(grade: Any) -> int | None:
    return int(grade) if isinstance(grade, int | float) and float(grade).is_integer() else None


def _write_corpus(name: str, path: Path, judged: set[str], most: int | None, seed: int, progress: Progress) -> int:
    """Write all documents, or the judged ones and as many others as there is room for; returns how many."""
    places: dict[str, int] = {}
    for identifier, _ in _watched(_identified(name, _CORPUS), progress, "look", None):
        places[identifier] = len(places)
    missing = sorted(judged - places.keys())
    if missing:
        raise DataError(f"{HUB}{name}: {len(missing)} judged documents are not in its corpus, such as {missing[0]!r}")
    kept = set(places)
    if most is not None and most < len(places):
        others = [identifier for identifier in places if identifier not in judged]
        drawn = generator("documents of a judged set", name, seed).permutation(len(others))
        kept = judged | {others[place] for place in drawn[: max(0, most - len(judged))].tolist()}
    written = (
        {"_id": i, "title": record.optional_text("title") or "", "text": record.text("text")}
        for i, record in _watched(_identified(name, _CORPUS), progress, "write", len(places))
        if i in kept
    )
    return _write_lines(path, written)


def _watched(
    rows: Iterator[tuple[str, Record]], progress: Progress, stage: str, total: int | None
) -> Iterator[tuple[str, Record]]:
    progress.start(stage, total, unit="documents")
    for row in rows:
        yield row
        progress.advance()
    progress.finish()


def _identified(name: str, table: str) -> Iterator[tuple[str, Record]]:
    seen: set[str] = set()
    for record in read_hub(name, table, config=table):
        identifier = record.identifier("_id", "id")
        if identifier is None:
            raise DataError(f"{record.where}: has no _id; give a set with mteb's tables")
        if identifier in seen:
            raise DataError(
                f"{record.where}: the id {identifier!r} occurs twice, so which of the two is judged is open"
            )
        seen.add(identifier)
        yield identifier, record


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
