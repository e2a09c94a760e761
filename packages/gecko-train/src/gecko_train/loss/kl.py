"""KL divergence from a teacher's scores to the student's similarities, over the documents of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gecko_train.loss.base import MOST_DOCUMENTS, LossBatch, Needs, Temperature, TermConfig

if TYPE_CHECKING:
    from torch import Tensor

#: The student's temperature where a recipe names none: with log probabilities or with scaled scores at 0.3 (CADeT,
#: arXiv 2505.19274) the target of a list spreads over 0.1 to 0.3 of cosine, which a small student can reach.
STUDENT_TEMPERATURE = 0.05


class ScoresConfig(TermConfig):
    """A term whose targets are the scores of a row's candidates."""

    score: str | None = Field(
        default=None,
        description="judge whose score is the target, scaled to 0..1 between its 1st and 99th percentile (CADeT): ql, "
        "similarity, fused, ...; default: the calibrated probabilities, or fused where rows have none",
    )


class KlConfig(ScoresConfig):
    """KL from the judges' scores of a row's candidates."""

    documents: int = Field(default=8, ge=2, le=MOST_DOCUMENTS, description="documents per row, the positive among them")
    temperature: Temperature | None = Field(
        default=None,
        description="the student's; default: 0.05, or the objective's where only `teacher_temperature` is given",
    )
    teacher_temperature: Temperature | None = Field(
        default=None,
        description="default: 1 for probabilities, 0.3 for scaled scores (CADeT); with `score` left out, fused scores "
        "are scaled only by default",
    )

    @classmethod
    def upgrade(cls, values: Any) -> Any:
        """See ``Section``; the default of earlier versions, written out, is the default of this one."""
        upgraded = super().upgrade(values)
        if isinstance(upgraded, Mapping) and "score" not in upgraded and upgraded.get("teacher_temperature") == 1:
            return {key: value for key, value in upgraded.items() if key != "teacher_temperature"}
        return upgraded

    def student_temperature(self, objective: float) -> float:
        """The temperature of the student's softmax.

        Args:
            objective: that of the contrastive softmax, which earlier versions took for this one as well.
        """
        if self.temperature is not None:
            return self.temperature
        return STUDENT_TEMPERATURE if self.teacher_temperature is None else objective

    def term(self) -> KlTerm:
        """See ``TermConfig``."""
        return KlTerm(self)


class KlTerm:
    """``gecko_kernels.kl_list_loss`` over the first ``documents`` documents of each row; NaN scores are left out."""

    def __init__(self, config: KlConfig):
        self.config = config
        self.needs = Needs(documents=config.documents, scores=True)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``; summed over the Matryoshka prefixes."""
        from gecko_kernels import kl_list_loss

        assert batch.scores is not None
        count = self.config.documents
        loss = kl_list_loss(
            batch.queries,
            batch.documents[:, :count],
            batch.scores[:, :count],
            temperature=self.config.student_temperature(batch.temperature),
            teacher_temperature=self.config.teacher_temperature or 1.0,
            dims=batch.dims,
            dim_weights=batch.dim_weights,
        )
        return loss, {}
