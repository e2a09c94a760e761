"""From rows to the loss: which texts are embedded, which ids are masked, which terms are added.

The main term is the Gecko loss (Lee et al. 2024, section 3.2) as ``gecko_kernels.same_tower_softmax_loss`` computes it;
hardness weight, spread-out regulariser (both EmbeddingGemma, arXiv 2509.20354), a margin mask for false negatives, a KL
term from the LLM's scores and embedding matching with a teacher model are switches, off by default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gecko_core.errors import ConfigError
from gecko_core.text_identity import text_id
from gecko_kernels import kl_list_loss, same_tower_softmax_loss
from gecko_train.config import ObjectiveConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.loss.margin import margin_loss
from gecko_train.loss.matching import matching_loss


class Formatter(Protocol):
    """The part of a Gecko model that turns texts into what its tower reads."""

    def format_queries(self, texts: Sequence[str], task: str) -> list[str]: ...

    def format_documents(self, texts: Sequence[str], titles: Sequence[str | None] | None) -> list[str]: ...


@dataclass(frozen=True)
class BatchTexts:
    """The distinct texts of some rows and where each side of a row finds its own.

    A text that occurs several times (a padded negative, a passage that is positive here and negative there) is embedded
    once.
    """

    texts: list[str]
    queries: Tensor  # (b,) places in texts
    documents: Tensor  # (b, M) places in texts; column 0 is the positive
    query_ids: Tensor  # (b,) int64
    document_ids: Tensor  # (b, M) int64; a row with fewer documents repeats its positive, which the id masks
    scores: Tensor  # (b, M) float32, teacher's scores; NaN where there is none


def batch_texts(rows: Sequence[TrainingRow], formatter: Formatter, documents: int) -> BatchTexts:
    """Format rows with ``documents`` documents each (positive and the first negatives)."""
    places: dict[str, int] = {}

    def place(text: str) -> int:
        return places.setdefault(text, len(places))

    columns = [_documents(row, documents) for row in rows]
    queries = [place(formatter.format_queries([row.query], row.task)[0]) for row in rows]
    found = [[place(_format(one, row, formatter)) for one in column] for row, column in zip(rows, columns, strict=True)]
    scores = torch.full((len(rows), documents), float("nan"))
    for number, row in enumerate(rows):
        if row.scores is not None:
            given = row.scores[:documents]
            scores[number, : len(given)] = torch.tensor(given)
    return BatchTexts(
        texts=list(places),
        queries=torch.tensor(queries),
        documents=torch.tensor(found).reshape(len(rows), documents),
        query_ids=torch.tensor([_label_id(row) or row.query_id for row in rows]),
        document_ids=torch.tensor(
            [
                [_label_id(row) or row.positive_id, *(_negative_id(row, one) for one in column[1:])]
                for row, column in zip(rows, columns, strict=True)
            ]
        ).reshape(len(rows), documents),
        scores=scores,
    )


def _documents(row: TrainingRow, count: int) -> list[Document]:
    column = [row.positive, *row.negatives[: count - 1]]
    return column + [row.positive] * (count - len(column))


def _format(one: Document, row: TrainingRow, formatter: Formatter) -> str:
    if row.symmetric:
        return formatter.format_queries([one.text], row.task)[0]
    return formatter.format_documents([one.text], [one.title])[0]


def _label_id(row: TrainingRow) -> int | None:
    """Rows of one label share an id, so that the loss masks them among each other."""
    return None if row.label is None else text_id("label:", row.label)


def _negative_id(row: TrainingRow, one: Document) -> int:
    if one is row.positive:
        return _label_id(row) or row.positive_id
    return one.id


class Objective:
    """The training loss over embeddings of one global batch.

    Args:
        config: temperature, switches, weights.
        dims: Matryoshka dims of the model, used unless the config names its own.

    Raises:
        ConfigError: a dim is larger than the model's.
    """

    def __init__(self, config: ObjectiveConfig, dims: Sequence[int]):
        self.config = config
        self.dims = tuple(config.dims or dims)
        if max(self.dims) > max(dims):
            raise ConfigError(f"objective.dims: {max(self.dims)} is larger than the model's {max(dims)}; leave it out")

    @property
    def documents(self) -> int:
        """Documents per row that the loss looks at: the positive and its hard negatives (or the KL list)."""
        listed = self.config.kl_documents if self.config.kl_weight else 1
        return max(1 + self.config.hard_negatives, listed)

    def __call__(
        self,
        queries: Tensor,  # (B, D)
        documents: Tensor,  # (B, M, D)
        query_ids: Tensor,  # (B,)
        document_ids: Tensor,  # (B, M)
        scores: Tensor | None = None,  # (B, M), NaN where the LLM gave none
        teacher: Tensor | None = None,  # (B, 1 + M, E), another model's vectors of query and documents
    ) -> tuple[Tensor, dict[str, float]]:
        """Loss (scalar, mean over rows) and what to watch: mean similarities and the single terms."""
        config = self.config
        hard = config.hard_negatives
        positives = documents[:, 0]
        negatives = documents[:, 1 : 1 + hard] if hard else None
        negative_ids = document_ids[:, 1 : 1 + hard] if hard else None
        options = {
            "temperature": config.temperature,
            "dims": self.dims,
            "dim_weights": tuple(config.dim_weights) if config.dim_weights else None,
            "same_tower": config.same_tower,
            "negatives_scope": config.negatives_scope,
            "query_ids": query_ids,
            "positive_ids": document_ids[:, 0],
            "negative_ids": negative_ids,
            "hardness": config.hardness,
        }
        parts: dict[str, Tensor] = {}
        if config.false_negative_margin is None:
            loss = same_tower_softmax_loss(queries, positives, negatives, **options)
        else:
            loss, parts["left_out"] = margin_loss(
                queries, positives, negatives, margin=config.false_negative_margin, **options
            )
        parts["contrastive"] = loss
        if config.kl_weight and scores is not None:
            parts["kl"] = kl_list_loss(
                queries, documents[:, : config.kl_documents], scores[:, : config.kl_documents],
                temperature=config.temperature, teacher_temperature=config.kl_teacher_temperature,
            )  # fmt: skip
            loss = loss + config.kl_weight * parts["kl"]
        if config.matching_weight and teacher is not None:
            student = torch.cat([queries[:, None], documents], 1)
            parts["matching"] = matching_loss(student.flatten(0, 1), teacher.flatten(0, 1))
            loss = loss + config.matching_weight * parts["matching"]
        if config.spread_out:
            parts["spread_out"] = spread_out(queries) + spread_out(positives)
            loss = loss + config.spread_out * parts["spread_out"]
        return loss, {**self._similarities(queries, positives, negatives), **_floats(parts)}

    @torch.no_grad()
    def _similarities(self, queries: Tensor, positives: Tensor, negatives: Tensor | None) -> dict[str, float]:
        q, p = normalize(queries.detach(), dim=-1), normalize(positives.detach(), dim=-1)
        watched = {"positive_similarity": float((q * p).sum(-1).mean())}
        if len(q) > 1:
            watched["in_batch_similarity"] = float((q * p.roll(1, 0)).sum(-1).mean())
        if negatives is not None:
            watched["negative_similarity"] = float((q[:, None] * normalize(negatives.detach(), dim=-1)).sum(-1).mean())
        return watched


def _floats(parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in parts.items()} if len(parts) > 1 else {}


def spread_out(vectors: Tensor) -> Tensor:  # (B, D) -> scalar
    """Mean of squared cosines of different rows: small when vectors use the whole sphere.

    Through the (D, D) Gram matrix, so that no (B, B) matrix is made: ||V V^T||^2 = ||V^T V||^2.
    """
    v = normalize(vectors.float(), dim=-1)
    count = len(v)
    if count < 2:
        return v.sum() * 0.0
    return ((v.T @ v).square().sum() - v.square().sum(1).square().sum()) / (count * (count - 1))
