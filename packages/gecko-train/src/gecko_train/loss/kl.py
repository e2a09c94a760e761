"""KL divergence from the LLM's scores to the student's similarities, over the documents of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from gecko_train.loss.base import LossBatch, Needs, TermConfig

if TYPE_CHECKING:
    from torch import Tensor


class KlConfig(TermConfig):
    """KL from the LLM's fused scores of a row's candidates."""

    documents: int = Field(default=8, ge=2, description="documents per row, the positive among them")
    teacher_temperature: float = Field(default=1.0, gt=0, description="temperature of the LLM's scores")

    def term(self) -> KlTerm:
        """See ``TermConfig``."""
        return KlTerm(self)


class KlTerm:
    """``gecko_kernels.kl_list_loss`` over the first ``documents`` documents of each row; NaN scores are left out."""

    def __init__(self, config: KlConfig):
        self.config = config
        self.needs = Needs(documents=config.documents, scores=True)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``."""
        from gecko_kernels import kl_list_loss

        assert batch.scores is not None
        count = self.config.documents
        loss = kl_list_loss(
            batch.queries,
            batch.documents[:, :count],
            batch.scores[:, :count],
            temperature=batch.temperature,
            teacher_temperature=self.config.teacher_temperature,
        )
        return loss, {}
