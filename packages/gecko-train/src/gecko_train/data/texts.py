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
    once.
    """

    texts: list[str]
    queries: Tensor  # (b,) indices into texts
    documents: Tensor  # (b, M) indices into texts; column 0 is the positive
    query_ids: Tensor  # (b,) int64
    document_ids: Tensor  # (b, M) int64; a row with fewer documents repeats its first, which the id masks
    scores: Tensor  # (b, M) float32, teacher's scores; NaN where there is none
    answered: Tensor  # (b,) bool, whether column 0 is a known answer of the query


@dataclass(frozen=True)
class BlockTexts:
    """A block as one rank sees it: the texts of its share, and what belongs to the whole block."""

    texts: list[str]
    queries: Tensor  # (q,) indices into texts, of this rank's queries
    documents: Tensor  # (n,) indices into texts, of this rank's documents
    query_ids: Tensor  # (Q,) int64
    rows: Tensor  # (Q, M) indices into the N documents: each query's own; column 0 is the positive
    document_ids: Tensor  # (Q, M) int64
    scores: Tensor  # (Q, M)
    answered: Tensor  # (Q,) bool, whether column 0 is a known answer of the query
    targets: Tensor  # (Q, N) teacher logits, NaN where nobody judged


def batch_texts(rows: Sequence[TrainingRow], formatter: Formatter, documents: int) -> BatchTexts:
    """Format rows with ``documents`` documents each: the positive, where it is known, and the first negatives.

    Args:
        rows: the rows.
        formatter: applies the prompts of the model that reads the texts.
        documents: M.
    """
    indices: dict[str, int] = {}

    def index(text: str) -> int:
        return indices.setdefault(text, len(indices))

    queries = [-1 if row.query is None else index(formatter.format_queries([row.query], row.task)[0]) for row in rows]
    columns = [[index(_format(document, row, formatter)) for document in _documents(row, documents)] for row in rows]
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
        texts=list(indices),
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
    rows: Sequence[TrainingRow],
    documents: Sequence[Document],
    formatter: Formatter,
    columns: int,
    *,
    hard_negatives: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> BlockTexts:
    """Format a block and lay out its targets.

    A query whose answer is not among the documents counts as one without a known answer, for this block.

    Args:
        rows: the block's queries, each with all its candidates and their scores.
        documents: the block's documents, different ones.
        formatter: applies the prompts of the model that reads the texts.
        columns: M, documents of each query in ``rows``; one with fewer repeats its first.
        hard_negatives: the columns after the first that only a row's hard negatives may fill.
        rank: this process; it embeds a share of the queries and of the documents.
        world_size: number of processes.
    """
    place = {document.id: number for number, document in enumerate(documents)}
    targets = np.full((len(rows), len(documents)), np.nan, dtype=np.float32)
    chosen = np.zeros((len(rows), columns), dtype=np.int64)
    scores = np.full((len(rows), columns), np.nan, dtype=np.float32)
    answered = np.zeros(len(rows), dtype=bool)
    for number, row in enumerate(rows):
        judged = row.scores or (np.nan,) * len(row.documents)
        ids = [document.id for document in row.documents]
        for identifier, score in zip(ids, judged, strict=True):
            if identifier in place:
                targets[number, place[identifier]] = score
        answered[number] = row.answered and ids[0] in place
        own = _own_columns([place.get(identifier) for identifier in ids], hard_negatives if row.answered else 0)
        chosen[number] = (own + own[:1] * columns)[:columns]
        _, once = np.unique(chosen[number], return_index=True)  # a repeated document is judged once
        scores[number, once] = targets[number, chosen[number, once]]
    document_ids = np.array([document.id for document in documents], dtype=np.int64)
    indices: dict[str, int] = {}

    def index(text: str) -> int:
        return indices.setdefault(text, len(indices))

    def share(count: int) -> list[int]:
        return np.array_split(np.arange(count), world_size)[rank].tolist()

    own_rows = [rows[number] for number in share(len(rows))]
    queries = [index(formatter.format_queries([row.query or ""], row.task)[0]) for row in own_rows]
    own_documents = [documents[number] for number in share(len(documents))]
    places = [index(formatter.format_documents([d.text], [d.title])[0]) for d in own_documents]
    return BlockTexts(
        texts=list(indices),
        queries=torch.tensor(queries),
        documents=torch.tensor(places),
        query_ids=torch.tensor([row.query_id for row in rows]),
        rows=torch.from_numpy(chosen),
        document_ids=torch.from_numpy(document_ids[chosen]),
        scores=torch.from_numpy(scores),
        answered=torch.from_numpy(answered),
        targets=torch.from_numpy(targets),
    )


def _own_columns(places: list[int | None], hard_negatives: int) -> list[int]:
    """Where a row's documents are in its block: the first, its hard negatives, the others that are there.

    The first stands in for a hard negative that is not there.
    """
    here = [place for place in places if place is not None]
    if not hard_negatives or not here or places[0] is None:
        return here or [0]
    hard = [here[0] if place is None else place for place in places[1 : 1 + hard_negatives]]
    hard += [here[0]] * (hard_negatives - len(hard))
    return [here[0], *hard, *(place for place in places[1 + hard_negatives :] if place is not None)]


@torch.no_grad()
def teacher_rows(vectors: Tensor, texts: BatchTexts) -> Tensor:
    """Lay out teacher vectors (T, E) of the distinct texts as the objective sees rows: (b, 1 + M, E), query first."""
    queries, documents = texts.queries.to(vectors.device), texts.documents.to(vectors.device)
    return torch.cat([vectors[queries][:, None], vectors[documents]], 1)


def _documents(row: TrainingRow, count: int) -> list[Document]:
    """The first ``count`` documents; where the row has fewer, its first again."""
    column = list(row.documents[:count])
    return column + column[:1] * (count - len(column))


def _format(document: Document, row: TrainingRow, formatter: Formatter) -> str:
    if row.symmetric:
        return formatter.format_queries([document.text], row.task)[0]
    return formatter.format_documents([document.text], [document.title])[0]


def _label_id(row: TrainingRow) -> int | None:
    """The id that rows of one label share, so that the loss masks them among each other."""
    return None if row.label is None else text_id("label:", row.label)


def _document_ids(row: TrainingRow, count: int) -> list[int]:
    """The ids of ``_documents``; a repeated first document has the first's id."""
    first = _label_id(row) or row.positive_id
    others = [document.id for document in row.documents[1:count]]
    return [first, *others, *[first] * (count - 1 - len(others))]
