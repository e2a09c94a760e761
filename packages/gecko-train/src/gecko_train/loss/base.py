"""What a term of the training loss is: its config section, what it reads of a batch, and the call that computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field, model_validator

from gecko_core.io import Section

if TYPE_CHECKING:  # reading a recipe loads no torch
    from torch import Tensor


@dataclass(frozen=True)
class Needs:
    """What a term reads besides queries and positives.

    Attributes:
        documents: documents per row, the positive included.
        scores: the LLM's scores of these documents.
        teacher: the vectors of a teacher model (``teacher`` of the stage).
    """

    documents: int = 1
    scores: bool = False
    teacher: bool = False


@dataclass(frozen=True)
class LossBatch:
    """The embeddings of one global batch and what belongs to them.

    Vectors have the model's full width and are not normalised. M is the largest number of documents that any term
    needs; a row with fewer repeats its positive, under the same id.

    Attributes:
        temperature: the objective's, for terms with a softmax of their own.
    """

    queries: Tensor  # (B, D)
    documents: Tensor  # (B, M, D); column 0 is the positive
    query_ids: Tensor  # (B,) int64
    document_ids: Tensor  # (B, M) int64; equal ids are never negatives of each other
    scores: Tensor | None  # (B, M), NaN where the LLM gave none
    teacher: Tensor | None  # (B, 1 + M, E), the teacher model's vectors of query and documents
    temperature: float

    @cached_property  # one view for all terms: the order in which gradients are added up depends on it
    def positives(self) -> Tensor:
        """The positives, (B, D)."""
        return self.documents[:, 0]


class Term(Protocol):
    """One summand of the loss over one global batch."""

    @property
    def needs(self) -> Needs:
        """What the term reads; rows and the trainer supply it."""
        ...

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the unweighted term.

        Returns:
            The term (scalar) and further scalars to watch by name; the term itself is watched under its section's name.
        """
        ...


class TermConfig(Section, ABC):
    """The config section of a term; subclasses add the term's options and build it."""

    weight: float = Field(default=0.0, ge=0, description="factor of the term; 0: off")

    @abstractmethod
    def term(self) -> Term:
        """Build the term that this section describes."""

    @classmethod
    def upgrade(cls, values: Any) -> Any:
        """See ``Section``; a term was once its weight alone."""
        is_weight = isinstance(values, int | float) and not isinstance(values, bool)
        return super().upgrade({"weight": values} if is_weight else values)

    @model_validator(mode="before")
    @classmethod
    def _a_number_is_no_section(cls, values: Any) -> Any:
        if isinstance(values, int | float) and not isinstance(values, bool):
            raise ValueError(f"a term is a section now; write {{weight: {values}}} instead of the number {values}")
        return values
