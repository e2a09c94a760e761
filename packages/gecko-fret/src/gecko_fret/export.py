"""Writing a FRet data set in the layouts of other training libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from gecko_core import format_document, format_query
from gecko_core.errors import ConfigError
from gecko_core.io import whole_path
from gecko_fret.corpus.passages import Passage
from gecko_fret.dataset import FretData, FretRow, load_fret
from gecko_fret.steps.parts import write_parquet

Render = tuple[Callable[[FretRow], str], Callable[[Passage], str]]


def export_fret(folder: str | Path, to: str | Path, layout: str, *, prompts: bool = False) -> int:
    """Exports a finished FRet folder and returns the number of rows written.

    layout: "sentence-transformers": one Parquet file with columns anchor, positive, negative (negative_1.. where rows
        have several; rows with fewer than most are left out), in the order that library reads as meaning;
        "flagembedding": JSONL with query, pos, neg, pos_scores, neg_scores (fused scores), prompt;
        "tevatron": a folder with train.jsonl (ids) and corpus.jsonl.
    prompts: put the gecko prompts into the texts; else title and text are joined, queries stay as they are.

    Raises `ConfigError` for an unknown layout, `DataError` for an unfinished folder.
    """
    writers = {
        "sentence-transformers": _sentence_transformers,
        "flagembedding": _flag_embedding,
        "tevatron": _tevatron,
    }
    if layout not in writers:
        raise ConfigError(f"--layout {layout}: use one of {', '.join(writers)}")
    data = load_fret(folder)
    return writers[layout](data, Path(to), _gecko_texts() if prompts else _plain_texts())


def _plain_texts() -> Render:
    return (lambda row: row.query), (lambda passage: passage.full_text)


def _gecko_texts() -> Render:
    return (
        lambda row: format_query(row.query, row.task),
        lambda passage: format_document(passage.text, passage.title),
    )


def _sentence_transformers(data: FretData, to: Path, render: Render) -> int:
    query, document = render
    width = max((len(row.negatives) for row in data), default=0)
    names = ["anchor", "positive"]
    names += ["negative"] if width == 1 else [f"negative_{i + 1}" for i in range(width)]
    rows = [
        [query(row), document(row.positive), *map(document, row.negatives)]
        for row in data
        if len(row.negatives) == width
    ]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    write_parquet(to, pa.table({name: pa.array(column, pa.large_string()) for name, column in columns.items()}))
    return len(rows)


def _flag_embedding(data: FretData, to: Path, render: Render) -> int:
    query, document = render

    def lines() -> Iterator[dict[str, Any]]:
        for row in data:
            fused = {candidate.id: candidate.fused for candidate in row.candidates}
            yield {
                "query": query(row),
                "pos": [document(row.positive)],
                "neg": [document(negative) for negative in row.negatives],
                "pos_scores": [fused[row.positive.id]],
                "neg_scores": [fused[negative.id] for negative in row.negatives],
                "prompt": row.task,
            }

    return _write_jsonl(to, lines())


def _tevatron(data: FretData, to: Path, render: Render) -> int:
    query, document = render
    _write_jsonl(to / "corpus.jsonl", ({"docid": p.id, "title": "", "text": document(p)} for p in data.corpus))
    return _write_jsonl(
        to / "train.jsonl",
        (
            {
                "query_id": row.id,
                "query_text": query(row),
                "positive_document_ids": [row.positive.id],
                "negative_document_ids": [negative.id for negative in row.negatives],
            }
            for row in data
        ),
    )


def _write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with whole_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
