"""KL divergence over a block: every query of the batch against every document of it for which there is a target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gecko_train.loss.base import Block, LossBatch, Needs, Temperature
from gecko_train.loss.kl import STUDENT_TEMPERATURE, ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor


#: Of a teacher's similarities, as of the student's.
SIMILARITY_TEMPERATURE = 0.05


class BlockConfig(ScoresConfig):
    """KL over the pairs of a block; the set needs ``blocks``."""

    targets: Literal["scores", "teacher"] = Field(
        default="scores",
        description="scores: those of the judges, where they judged; teacher: similarities by the stage's `teacher`, "
        "which has one for every pair",
    )
    temperature: Temperature = Field(default=STUDENT_TEMPERATURE, description="the student's")
    teacher_temperature: Temperature | None = Field(
        default=None,
        description="default: 1 for probabilities, 0.3 for scaled scores (CADeT), 0.05 for a teacher's similarities",
    )
    documents_weight: float = Field(
        default=0.5,
        ge=0,
        description="weight of the documents against each other, beside 1 for the queries; with a teacher only",
    )

    def term(self) -> BlockTerm:
        """See ``TermConfig``."""
        return BlockTerm(self)


class BlockTerm:
    """``gecko_kernels.block_kl_loss`` of queries and documents; with a teacher also of documents and documents."""

    def __init__(self, config: BlockConfig):
        self.config = config
        teacher = config.targets == "teacher"
        self.needs = Needs(scores=not teacher, teacher=teacher, block=True)

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """See ``Term``; watched is how many documents have a target, in the mean over the queries."""
        block = batch.block
        assert block is not None
        if self.config.targets == "scores":
            loss = self._kl(
                batch, batch.queries, block.documents, block.targets, self.config.teacher_temperature or 1.0
            )
            return loss, {"judged": block.targets.isfinite().sum(1).float().mean()}
        return self._from_teacher(batch, block)

    def _from_teacher(self, batch: LossBatch, block: Block) -> tuple[Tensor, dict[str, Tensor]]:
        from torch.nn.functional import normalize

        assert block.teacher_queries is not None
        assert block.teacher_documents is not None
        temperature = self.config.teacher_temperature or SIMILARITY_TEMPERATURE
        queries = normalize(block.teacher_queries.float(), dim=-1)
        documents = normalize(block.teacher_documents.float(), dim=-1)
        loss = self._kl(batch, batch.queries, block.documents, queries @ documents.T, temperature)
        if not self.config.documents_weight:
            return loss, {}
        among = (documents @ documents.T).fill_diagonal_(float("nan"))  # a text's similarity to itself says nothing
        between = self._kl(batch, block.documents, block.documents, among, temperature)
        return loss + self.config.documents_weight * between, {"block_queries": loss, "block_documents": between}

    def _kl(
        self, batch: LossBatch, queries: Tensor, documents: Tensor, targets: Tensor, teacher_temperature: float
    ) -> Tensor:
        from gecko_kernels import block_kl_loss

        return block_kl_loss(
            queries, documents, targets, temperature=self.config.temperature, teacher_temperature=teacher_temperature,
            dims=batch.dims, dim_weights=batch.dim_weights,
        )  # fmt: skip
