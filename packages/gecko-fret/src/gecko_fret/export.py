"""Writing a FRet data set in the layouts of other training libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from gecko_core import format_document, format_query
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import is_leftover, lies_in, refuse_link, whole_folder, whole_path
from gecko_fret.corpus.passages import Passage
from gecko_fret.dataset import FretData, FretRow, load_fret
from gecko_fret.steps.parts import write_parquet


@dataclass(frozen=True, slots=True)
class Render:
    """How queries and documents become texts."""

    query: Callable[[FretRow], str]
    document: Callable[[Passage], str]


PLAIN = Render(lambda row: row.query, lambda passage: passage.full_text)
GECKO = Render(
    lambda row: format_query(row.query, row.task), lambda passage: format_document(passage.text, passage.title)
)


def export_fret(
    folder: str | Path,
    to: str | Path,
    layout: str,
    *,
    prompts: bool = False,
    overwrite: bool = False,
    say: Callable[[str], None] | None = None,
) -> int:
    """Export a finished FRet folder.

    Args:
        folder: the FRet folder.
        to: the file or folder to write.
        layout: a name in ``LAYOUTS``.
        prompts: put the gecko prompts into the texts; else title and text are joined and queries stay as they are.
        overwrite: replace what is there.
        say: told which rows are left out, if any.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: an unknown layout, or a place that is not to be written.
        DataError: the folder holds no finished build, or the judges found an answer for none of its rows.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"--layout {layout}: use one of {', '.join(LAYOUTS)}")
    to = Path(to)
    _check_place(to, Path(folder), _ENDINGS.get(layout), overwrite)
    data = load_fret(folder)
    answered = sum(1 for _ in _answered(data))
    if not answered:
        raise DataError(
            f"{folder}: the judges found an answer for none of its {len(data)} rows, and no layout has a place for "
            "such rows; build with more seeds (generate.seeds), or lower mine.min_probability"
        )
    written = LAYOUTS[layout](data, to, GECKO if prompts else PLAIN)
    if say is not None:
        if answered < len(data):
            say(f"{len(data) - answered} of {len(data)} rows left out: the judges found no answer for their queries")
        if written < answered:
            say(f"{answered - written} of {len(data)} rows left out: they have fewer negatives than the others")
    return written


def _check_place(to: Path, folder: Path, ending: str | None, overwrite: bool) -> None:
    """Check where an export is to be written.

    Raises:
        ConfigError: within the FRet folder, under a name of another kind, or where something is.
        DataError: at a link.
    """
    if lies_in(to, folder):
        raise ConfigError(f"{to}: is inside the FRet folder, where it might replace a part; choose another place")
    if ending is not None and to.suffix != ending:
        raise ConfigError(f"{to}: this layout is written as NAME{ending}; choose such a name")
    refuse_link(to)
    if to.exists() and not overwrite and not (to.is_dir() and not any(to.iterdir())):
        raise ConfigError(f"{to}: exists; choose another name or give --overwrite")
    if ending is None and to.is_dir():  # it is replaced as a whole
        others = sorted(
            entry.name for entry in to.iterdir() if not (entry.name in _TEVATRON or is_leftover(entry.name))
        )
        if others:
            raise ConfigError(f"{to}: holds other files than an export's ({others[0]}, ...); choose another folder")


def sentence_transformers(data: FretData, to: Path, render: Render) -> int:
    """Write one Parquet file with the columns anchor, positive, negative, in the order that gives them their meaning.

    Where rows have several negatives the columns are negative_1, negative_2 and so on; rows with fewer negatives than
    the most are left out.
    """
    answered = list(_answered(data))
    width = max((len(row.negatives) for row, _ in answered), default=0)
    names = ["anchor", "positive"]
    names += ["negative"] if width == 1 else [f"negative_{number + 1}" for number in range(width)]
    rows = [
        [render.query(row), render.document(positive), *map(render.document, row.negatives)]
        for row, positive in answered
        if len(row.negatives) == width
    ]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    write_parquet(to, pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()}))
    return len(rows)


def flag_embedding(data: FretData, to: Path, render: Render) -> int:
    """Write JSONL with query, pos, neg, pos_scores and neg_scores (fused scores), and the task as prompt."""

    def line(row: FretRow, positive: Passage) -> dict[str, Any]:
        fused = {candidate.id: candidate.fused for candidate in row.candidates}
        return {
            "query": render.query(row),
            "pos": [render.document(positive)],
            "neg": [render.document(negative) for negative in row.negatives],
            "pos_scores": [fused[positive.id]],
            "neg_scores": [fused[negative.id] for negative in row.negatives],
            "prompt": row.task,
        }

    return _write_jsonl(to, (line(row, positive) for row, positive in _answered(data)))


def tevatron(data: FretData, to: Path, render: Render) -> int:
    """Write a folder with train.jsonl, which names documents by id, and corpus.jsonl. What was there goes.

    A passage beside its title as a query is shown without it. Such a document follows the others, and has an id of
    its own, ``ID#untitled``.
    """
    titled = {passage.id for passage in data.corpus if passage.title}
    untitled: dict[str, Passage] = {}

    def identifier(passage: Passage) -> str:
        if passage.title or passage.id not in titled:
            return passage.id
        name = f"{passage.id}#untitled"
        while name in known:
            name += "_"
        untitled[name] = passage
        return name

    known = {passage.id for passage in data.corpus}

    def line(row: FretRow, positive: Passage) -> dict[str, Any]:
        return {
            "query_id": row.id,
            "query_text": render.query(row),
            "positive_document_ids": [identifier(positive)],
            "negative_document_ids": [identifier(negative) for negative in row.negatives],
        }

    with whole_folder(to) as folder:  # the two files belong together
        count = _write_jsonl(folder / "train.jsonl", (line(row, positive) for row, positive in _answered(data)))
        documents = chain(((passage.id, passage) for passage in data.corpus), untitled.items())
        lines = ({"docid": name, "title": "", "text": render.document(passage)} for name, passage in documents)
        _write_jsonl(folder / "corpus.jsonl", lines)
        return count


def _answered(data: FretData) -> Iterator[tuple[FretRow, Passage]]:
    """The rows with a positive, and their positives: no layout has a place for the others."""
    for row in data:
        if row.positive is not None:
            yield row, row.positive


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    count = 0
    with whole_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


#: How names of files end, by layout; the others write folders.
_ENDINGS = {"sentence-transformers": ".parquet", "flagembedding": ".jsonl"}
_TEVATRON = ("corpus.jsonl", "train.jsonl")
#: Values of ``--layout``. To add a layout, write its function and put it here.
LAYOUTS: dict[str, Callable[[FretData, Path, Render], int]] = {
    "sentence-transformers": sentence_transformers,
    "flagembedding": flag_embedding,
    "tevatron": tevatron,
}
