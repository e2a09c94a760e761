"""Embedding matching: the student's vectors are drawn to those of a teacher model.

Where both have the same width, by cosine (EmbeddingGemma, arXiv 2509.20354, matches queries, positives and hard
negatives with its teacher); where they differ, by the similarities among the texts of a batch, which have no width
(as in Jasper and Stella, arXiv 2412.19048).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def matching_loss(
    student: Tensor,  # (N, D)
    teacher: Tensor,  # (N, E)
) -> Tensor:
    """Mean of 1 - cosine for equal widths, else the mean squared difference of all pairwise cosines. Scalar."""
    s, t = normalize(student.float(), dim=-1), normalize(teacher.detach().float(), dim=-1)
    if s.shape[1] == t.shape[1]:
        return 1 - (s * t).sum(-1).mean()
    return (s @ s.T - t @ t.T).square().mean()


@torch.no_grad()
def teacher_rows(vectors: Tensor, queries: Tensor, documents: Tensor) -> Tensor:
    """Teacher vectors (T, E) of distinct texts, laid out as the objective sees rows: (b, 1 + M, E), query first."""
    return torch.cat([vectors[queries][:, None], vectors[documents]], 1)
