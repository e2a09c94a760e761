"""From rows to texts: which texts of a batch are embedded, and which ids mask false negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gecko_core.text_identity import text_id
from gecko_train.data.rows import Document, TrainingRow


class Formatter(Protocol):
    """The part of a Gecko model that applies prompts."""

    def format_queries(self, texts: Sequence[str], task: str) -> list[str]:
        """Texts in the query format."""
        ...

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> list[str]:
        """Texts in the document format."""
        ...


@dataclass(frozen=True)
class BatchTexts:
    """The distinct texts of some rows, and the index of each query and document among them.

    A text that occurs several times (a padded negative, a passage that is positive here and negative there) is embedded
    once; but a text that is its own positive twice, each time under its own dropout (SimCSE).
    """

    texts: list[str]
    queries: Tensor  # (b,) indices into texts
    documents: Tensor  # (b, M) indices into texts; column 0 is the positive
    query_ids: Tensor  # (b,) int64
    document_ids: Tensor  # (b, M) int64; no negative (a repeated positive, an equal text) has the positive's id
    scores: Tensor  # (b, M) float32, teacher's scores; NaN where there is none
    answered: Tensor  # (b,) bool, whether column 0 is a known answer of the query


@dataclass(frozen=True)
class BlockTexts:
    """The distinct texts that one rank embeds of a block, its share of the queries and of the documents."""

    texts: list[str]
    queries: Tensor  # (q,) indices into texts
    documents: Tensor  # (n,) indices into texts


def batch_texts(rows: Sequence[TrainingRow], formatter: Formatter, documents: int) -> BatchTexts:
    """Format rows with ``documents`` documents each: the positive, where it is known, and the first negatives.

    Args:
        rows: the rows.
        formatter: applies the prompts of the model that reads the texts.
        documents: M.
    """
    indices: dict[tuple[str, bool], int] = {}

    def index(text: str, again: bool = False) -> int:
        return indices.setdefault((text, again), len(indices))

    queries = [-1 if row.query is None else index(formatter.format_queries([row.query], row.task)[0]) for row in rows]
    columns = [
        [index(_format(document, row, formatter), _is_query(document, row)) for document in _documents(row, documents)]
        for row in rows
    ]
    for number, column in enumerate(columns):
        # A row without a query stands for its passage, one without a document for its query in every place.
        queries[number] = queries[number] if queries[number] >= 0 else column[0]
        columns[number] = column or [queries[number]] * documents
    scores = torch.full((len(rows), documents), float("nan"))
    for number, row in enumerate(rows):
        if row.scores is not None:
            known = row.scores[:documents]
            scores[number, : len(known)] = torch.tensor(known)
    return BatchTexts(
        texts=[text for text, _ in indices],
        queries=torch.tensor(queries),
        documents=torch.tensor(columns).reshape(len(rows), documents),
        query_ids=torch.tensor([_label_id(row) or row.query_id for row in rows]),
        document_ids=torch.tensor([_document_ids(row, documents) for row in rows]).reshape(len(rows), documents),
        scores=scores,
        answered=torch.tensor([row.answered for row in rows]),
    )


def row_texts(row: TrainingRow, formatter: Formatter, documents: int) -> list[str]:
    """The texts of one row: the query, where there is one, and its first ``documents`` documents."""
    query = [] if row.query is None else formatter.format_queries([row.query], row.task)
    return [*query, *(_format(document, row, formatter) for document in row.documents[:documents])]


def block_texts(
    queries: Sequence[tuple[str, str]],  # (task, text)
    documents: Sequence[Document],
    formatter: Formatter,
    rank: int = 0,
    world_size: int = 1,
) -> BlockTexts:
    """Format the share of a block that one rank embeds.

    Args:
        queries: all of the block's.
        documents: likewise.
        formatter: applies the prompts of the model that reads the texts.
        rank: this process.
        world_size: number of processes.
    """
    indices: dict[str, int] = {}

    def index(text: str) -> int:
        return indices.setdefault(text, len(indices))

    def share(count: int) -> list[int]:
        return np.array_split(np.arange(count), world_size)[rank].tolist()

    asked = [
        index(formatter.format_queries([text], task)[0]) for task, text in (queries[n] for n in share(len(queries)))
    ]
    read = [
        index(formatter.format_documents([d.text], [d.title])[0]) for d in (documents[n] for n in share(len(documents)))
    ]
    return BlockTexts(list(indices), torch.tensor(asked), torch.tensor(read))


@torch.no_grad()
def teacher_rows(vectors: Tensor, texts: BatchTexts) -> Tensor:
    """Lay out teacher vectors (T, E) of the distinct texts as the objective sees rows: (b, 1 + M, E), query first."""
    queries, documents = texts.queries.to(vectors.device), texts.documents.to(vectors.device)
    return torch.cat([vectors[queries][:, None], vectors[documents]], 1)


def _documents(row: TrainingRow, count: int) -> list[Document]:
    """The first ``count`` documents; where the row has fewer, its first again."""
    column = list(row.documents[:count])
    return column + column[:1] * (count - len(column))


def _is_query(document: Document, row: TrainingRow) -> bool:
    """Whether a row's document is its own query, written alike."""
    return row.symmetric and document.text == row.query


def _format(document: Document, row: TrainingRow, formatter: Formatter) -> str:
    if row.symmetric:
        return formatter.format_queries([document.text], row.task)[0]
    return formatter.format_documents([document.text], [document.title])[0]


def _label_id(row: TrainingRow) -> int | None:
    """The id that rows of one label share, so that the loss masks them among each other."""
    return None if row.label is None else text_id("label:", row.label)


def _document_ids(row: TrainingRow, count: int) -> list[int]:
    """The ids of ``_documents``; a repeated first document, and what is no negative of the row, has the first's id."""
    first = _label_id(row) or row.positive_id
    others = [document.id if row.is_negative(document) else first for document in row.documents[1:count]]
    return [first, *others, *[first] * (count - 1 - len(others))]
