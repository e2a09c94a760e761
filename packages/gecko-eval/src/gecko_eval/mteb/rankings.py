"""Rankings as TREC run files: what trec_eval, pytrec_eval, ranx and every fusion script read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import whole_file
from gecko_eval.results import make_folder, safe_name

#: query id -> document id -> score, by "split/subset".
Rankings = Mapping[str, Mapping[str, Mapping[str, float]]]


def save_rankings(out: Path, task: str, dim: int, rankings: Rankings, tag: str) -> list[str]:
    """Writes ``out/rankings/TASK@DIM.trec``, whole or not at all; a task of several subsets gets a file for each.

    One line per document, best first: query id, Q0, document id, rank from 1, score, ``tag``. ``dim`` 0 is a model
    without dims.

    Returns:
        The files' names.

    Raises:
        DataError: an id holds white space, which the format has no place for.
    """
    make_folder(out / "rankings")
    name = safe_name(task) + (f"@{dim}" if dim else "")
    names = []
    for where, ranking in rankings.items():
        subset = f".{safe_name(where.split('/', 1)[1])}" if len(rankings) > 1 else ""
        names.append(f"{name}{subset}.trec")
        with whole_file(out / "rankings" / names[-1]) as file:
            for query, documents in ranking.items():
                file.write(_lines(task, query, documents, "-".join(tag.split())).encode())
    return names


def has_rankings(out: Path, score: Mapping[str, Any]) -> bool:
    """Whether the files that ``save_rankings`` named for a score are there."""
    names = score.get("rankings", [])
    return bool(names) and all((out / "rankings" / str(name)).is_file() for name in names)


def _lines(task: str, query: str, documents: Mapping[str, float], tag: str) -> str:
    spaced = _first_spaced([query, *documents])
    if spaced is not None:
        raise DataError(f"{task}: the id {spaced!r} holds white space and cannot stand in a TREC run file")
    # trec_eval breaks ties by document id, last first; so does search here.
    best = sorted(documents.items(), key=lambda one: (one[1], one[0]), reverse=True)
    return "".join(f"{query} Q0 {doc} {rank} {score:.9g} {tag}\n" for rank, (doc, score) in enumerate(best, 1))


def _first_spaced(ids: Iterable[str]) -> str | None:
    return next((one for one in ids if not one or one.split() != [one]), None)
