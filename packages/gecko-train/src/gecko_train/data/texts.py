"""From rows to texts: which texts of a batch are embedded, and which ids mask false negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

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
    once.
    """

    texts: list[str]
    queries: Tensor  # (b,) indices into texts
    documents: Tensor  # (b, M) indices into texts; column 0 is the positive
    query_ids: Tensor  # (b,) int64
    document_ids: Tensor  # (b, M) int64; a row with fewer documents repeats its positive, which the id masks
    scores: Tensor  # (b, M) float32, teacher's scores; NaN where there is none


def batch_texts(rows: Sequence[TrainingRow], formatter: Formatter, documents: int) -> BatchTexts:
    """Format rows with ``documents`` documents each: the positive and the first negatives."""
    indices: dict[str, int] = {}

    def index(text: str) -> int:
        return indices.setdefault(text, len(indices))

    columns = [_documents(row, documents) for row in rows]
    queries = [index(formatter.format_queries([row.query], row.task)[0]) for row in rows]
    document_indices = [
        [index(_format(document, row, formatter)) for document in column]
        for row, column in zip(rows, columns, strict=True)
    ]
    document_ids = [
        [_label_id(row) or row.positive_id, *(_negative_id(row, document) for document in column[1:])]
        for row, column in zip(rows, columns, strict=True)
    ]
    scores = torch.full((len(rows), documents), float("nan"))
    for number, row in enumerate(rows):
        if row.scores is not None:
            known = row.scores[:documents]
            scores[number, : len(known)] = torch.tensor(known)
    return BatchTexts(
        texts=list(indices),
        queries=torch.tensor(queries),
        documents=torch.tensor(document_indices).reshape(len(rows), documents),
        query_ids=torch.tensor([_label_id(row) or row.query_id for row in rows]),
        document_ids=torch.tensor(document_ids).reshape(len(rows), documents),
        scores=scores,
    )


@torch.no_grad()
def teacher_rows(vectors: Tensor, texts: BatchTexts) -> Tensor:
    """Lay out teacher vectors (T, E) of the distinct texts as the objective sees rows: (b, 1 + M, E), query first."""
    queries, documents = texts.queries.to(vectors.device), texts.documents.to(vectors.device)
    return torch.cat([vectors[queries][:, None], vectors[documents]], 1)


def _documents(row: TrainingRow, count: int) -> list[Document]:
    column = [row.positive, *row.negatives[: count - 1]]
    return column + [row.positive] * (count - len(column))


def _format(document: Document, row: TrainingRow, formatter: Formatter) -> str:
    if row.symmetric:
        return formatter.format_queries([document.text], row.task)[0]
    return formatter.format_documents([document.text], [document.title])[0]


def _label_id(row: TrainingRow) -> int | None:
    """The id that rows of one label share, so that the loss masks them among each other."""
    return None if row.label is None else text_id("label:", row.label)


def _negative_id(row: TrainingRow, document: Document) -> int:
    if document is row.positive:
        return _label_id(row) or row.positive_id
    return document.id
