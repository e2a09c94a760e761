"""Embedding matching: the student's vectors are pulled towards those of a teacher model.

Where both have the same width, by cosine (EmbeddingGemma, arXiv 2509.20354, matches queries, positives and hard
negatives with its teacher); where they differ, by the similarities among the texts of a batch, which have no width
(as in Jasper and Stella, arXiv 2412.19048), or by cosine after a projection that is trained along and not saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from gecko_train.loss.base import LossBatch, Needs, TermConfig

if TYPE_CHECKING:
    from torch import Tensor


class MatchingConfig(TermConfig):
    """Embedding matching with the stage's ``teacher``."""

    projection: bool = Field(
        default=False,
        description="a linear layer from the student's width to the teacher's, trained along and no part of the model",
    )

    def term(self) -> MatchingTerm:
        """See ``TermConfig``."""
        return MatchingTerm(self)


class MatchingTerm:
    """Matching of all queries and documents of a batch, without what is repeated; of a block's documents each once."""

    def __init__(self, config: MatchingConfig):
        self.config = config
        self.needs = Needs(teacher=True)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``."""
        import torch

        block = batch.block
        if block is not None:
            assert block.teacher_queries is not None
            assert block.teacher_documents is not None
            student = torch.cat([batch.queries, block.documents])
            teacher = torch.cat([block.teacher_queries, block.teacher_documents])
        else:
            assert batch.teacher is not None
            there = torch.cat([torch.ones_like(batch.query_ids, dtype=torch.bool)[:, None], ~batch.repeated()], 1)
            student = torch.cat([batch.queries[:, None], batch.documents], 1)[there]
            teacher = batch.teacher[there]
        if self.config.projection:
            assert batch.projection is not None
            student = batch.projection(student.float())
        return matching_loss(student, teacher), {}


def matching_loss(
    student: Tensor,  # (N, D)
    teacher: Tensor,  # (N, E)
) -> Tensor:
    """Mean of 1 - cosine for equal widths, else the mean squared difference of all pairwise cosines. Scalar."""
    from torch.nn.functional import normalize

    s, t = normalize(student.float(), dim=-1), normalize(teacher.detach().float(), dim=-1)
    if s.shape[1] == t.shape[1]:
        return 1 - (s * t).sum(-1).mean()
    return (s @ s.T - t @ t.T).square().mean()
