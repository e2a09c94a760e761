"""The Gecko loss (Lee et al. 2024, section 3.2): in-batch softmax with hard negatives and same-tower negatives.

Options beyond the paper, off by default: the hardness weight (EmbeddingGemma, arXiv 2509.20354) and the margin mask for
false negatives (Qwen3-Embedding, arXiv 2506.05176).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gecko_core.io import Section
from gecko_train.loss.base import LossBatch, Needs

if TYPE_CHECKING:
    from torch import Tensor


class ContrastiveConfig(Section):
    """The options of the Gecko loss; they stand directly under ``objective``."""

    temperature: float = Field(
        default=0.02, gt=0, description="not stated in the paper; 0.01 to 0.05 is the field's range"
    )
    dims: list[int] | None = Field(default=None, description="Matryoshka dims; default: the student's")
    dim_weights: list[float] | None = Field(default=None, description="default: equal (1 each)")
    same_tower: bool = Field(default=True, description="other queries of the batch are negatives (SamToNe)")
    negatives_scope: Literal["own", "batch"] = Field(
        default="own", description="own: a row's hard negatives count for it alone"
    )
    hard_negatives: int = Field(default=1, ge=0, description="hard negatives per row")
    hardness: float = Field(
        default=0.0, ge=0, description="weight exp(a * sim(q, p-)) of hard negatives (EmbeddingGemma: 5); 0: off"
    )
    false_negative_margin: float | None = Field(
        default=None,
        ge=0,
        description="in-batch negatives this much nearer to the query than its positive do not count",
    )

    def check(self) -> None:
        """Check what the types of single fields cannot: that the fields go together.

        Raises:
            ValueError: they do not.
        """
        if self.dim_weights is not None and (self.dims is None or len(self.dim_weights) != len(self.dims)):
            raise ValueError("dim_weights needs dims of the same length")


class ContrastiveTerm:
    """``gecko_kernels.same_tower_softmax_loss`` with the options of a recipe.

    Args:
        config: the options.
        dims: Matryoshka dims.
    """

    def __init__(self, config: ContrastiveConfig, dims: Sequence[int]):
        self.config = config
        self.dims = tuple(dims)
        self.needs = Needs(documents=1 + config.hard_negatives)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``; watched are mean similarities and the share of pairs that the margin left out."""
        from gecko_kernels import same_tower_softmax_loss

        config, hard, positives = self.config, self.config.hard_negatives, batch.positives
        negatives = batch.documents[:, 1 : 1 + hard] if hard else None
        options: dict[str, Any] = {
            "temperature": config.temperature,
            "dims": self.dims,
            "dim_weights": tuple(config.dim_weights) if config.dim_weights else None,
            "same_tower": config.same_tower,
            "negatives_scope": config.negatives_scope,
            "query_ids": batch.query_ids,
            "positive_ids": batch.document_ids[:, 0],
            "negative_ids": batch.document_ids[:, 1 : 1 + hard] if hard else None,
            "hardness": config.hardness,
            "false_negative_margin": config.false_negative_margin,
        }
        watched = _similarities(
            batch.queries.detach(), positives.detach(), None if negatives is None else negatives.detach()
        )
        loss, left_out = same_tower_softmax_loss(batch.queries, positives, negatives, return_left_out=True, **options)
        return loss, watched if config.false_negative_margin is None else {**watched, "left_out": left_out}


def _similarities(queries: Tensor, positives: Tensor, negatives: Tensor | None) -> dict[str, Tensor]:
    from torch.nn.functional import normalize

    q, p = normalize(queries, dim=-1), normalize(positives, dim=-1)
    watched = {"positive_similarity": (q * p).sum(-1).mean()}
    if len(q) > 1:
        watched["in_batch_similarity"] = (q * p.roll(1, 0)).sum(-1).mean()
    if negatives is not None:
        watched["negative_similarity"] = (q[:, None] * normalize(negatives, dim=-1)).sum(-1).mean()
    return watched
