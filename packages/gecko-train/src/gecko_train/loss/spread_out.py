"""The spread-out regulariser of EmbeddingGemma (arXiv 2509.20354): different rows should have low similarity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_train.loss.base import LossBatch, Needs, TermConfig

if TYPE_CHECKING:
    from torch import Tensor


class SpreadOutConfig(TermConfig):
    """Mean squared similarity of different rows, among queries and among positives."""

    def term(self) -> SpreadOutTerm:
        """See ``TermConfig``."""
        return SpreadOutTerm()


class SpreadOutTerm:
    """The regulariser of the queries plus that of the positives."""

    needs = Needs()

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``."""
        return spread_out(batch.queries) + spread_out(batch.answered_only().positives), {}


def spread_out(vectors: Tensor) -> Tensor:  # (B, D) -> scalar
    """Mean of squared cosines of different rows: small when vectors use the whole sphere.

    Computed from the (D, D) Gram matrix, so that no (B, B) matrix is made: ||V V^T||^2 = ||V^T V||^2.
    """
    from torch.nn.functional import normalize

    v = normalize(vectors.float(), dim=-1)
    count = len(v)
    if count < 2:
        return v.sum() * 0.0
    return ((v.T @ v).square().sum() - v.square().sum(1).square().sum()) / (count * (count - 1))
