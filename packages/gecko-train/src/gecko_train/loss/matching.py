"""Embedding matching: the student's vectors are pulled towards those of a teacher model.

Where both have the same width, by cosine (EmbeddingGemma, arXiv 2509.20354, matches queries, positives and hard
negatives with its teacher); where they differ, by the similarities among the texts of a batch, which have no width
(as in Jasper and Stella, arXiv 2412.19048).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_train.loss.base import LossBatch, Needs, TermConfig

if TYPE_CHECKING:
    from torch import Tensor


class MatchingConfig(TermConfig):
    """Embedding matching with the stage's ``teacher``."""

    def term(self) -> MatchingTerm:
        """See ``TermConfig``."""
        return MatchingTerm()


class MatchingTerm:
    """Matching of all queries and documents of a batch."""

    needs = Needs(teacher=True)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``."""
        import torch

        assert batch.teacher is not None
        student = torch.cat([batch.queries[:, None], batch.documents], 1)
        return matching_loss(student.flatten(0, 1), batch.teacher.flatten(0, 1)), {}


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
