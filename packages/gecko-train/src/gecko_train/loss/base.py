"""What a term of the training loss is: its config section, what it reads of a batch, and the call that computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field, model_validator

from gecko_core.io import Section

if TYPE_CHECKING:  # reading a recipe loads no torch
    from torch import Tensor


#: The temperature of a softmax over cosines or scores. Far below the field's range the softmax is a plain maximum: the
#: loss and its gradient are exactly 0 for every row that is right already, and 1 / temperature overflows in the end.
Temperature = Annotated[float, Field(ge=1e-4, le=100)]
#: Of one row. Rows are filled up to what is asked, so that a slip of the hand would use up the memory.
MOST_DOCUMENTS = 4096


@dataclass(frozen=True)
class Needs:
    """What a term reads besides queries and positives.

    Attributes:
        documents: documents per row, the positive included.
        scores: the judges' scores of these documents.
        teacher: the vectors of a teacher model (``teacher`` of the stage).
        block: a batch that is a block (``blocks`` of the set); with ``scores``, those of all its pairs.
    """

    documents: int = 1
    scores: bool = False
    teacher: bool = False
    block: bool = False


@dataclass(frozen=True)
class Block:
    """What a batch that is a block holds besides its rows: documents that all its queries share.

    Attributes:
        likely: pairs whose document the teacher takes for nearly as good as the query's best: no negatives.
    """

    documents: Tensor  # (N, D), different ones
    rows: Tensor  # (B, M) int64, where the documents of the rows are among these
    targets: Tensor  # (B, N) teacher logits, NaN where nobody judged
    likely: Tensor | None = None  # (B, N) bool
    teacher_queries: Tensor | None = None  # (B, E)
    teacher_documents: Tensor | None = None  # (N, E)


@dataclass(frozen=True)
class LossBatch:
    """The embeddings of one global batch and what belongs to them.

    Vectors have the model's full width and are not normalised. M is the largest number of documents that any term
    needs; a row with fewer repeats its positive, under the same id.

    Attributes:
        temperature: the objective's, for terms with a softmax of their own.
        dims: Matryoshka prefixes of the objective; None: the whole width only.
        dim_weights: one per entry of ``dims``; None: all 1.
        answered: which rows have a known answer in column 0 of ``documents``; None: all.
        projection: to the teacher's width, trained along; None: there is none.
    """

    queries: Tensor  # (B, D)
    documents: Tensor  # (B, M, D); column 0 is the positive
    query_ids: Tensor  # (B,) int64
    document_ids: Tensor  # (B, M) int64; equal ids are never negatives of each other
    scores: Tensor | None  # (B, M) teacher logits, NaN where nobody judged
    teacher: Tensor | None  # (B, 1 + M, E), the teacher model's vectors of query and documents
    temperature: float
    dims: tuple[int, ...] | None = None
    dim_weights: tuple[float, ...] | None = None
    answered: Tensor | None = None  # (B,) bool
    block: Block | None = None
    projection: Callable[[Tensor], Tensor] | None = None

    @cached_property  # one view for all terms: the order in which gradients are added up depends on it
    def positives(self) -> Tensor:
        """The positives, (B, D)."""
        return self.documents[:, 0]

    def repeated(self, count: int | None = None) -> Tensor:
        """Which of the first documents of each row repeat its positive, for want of others, (B, count) bool.

        Args:
            count: columns, the positive's included; None: all.
        """
        ids = self.document_ids[:, :count]
        found = ids == ids[:, :1]
        found[:, 0] = False
        return found

    def answered_only(self) -> LossBatch:
        """The batch without the rows whose answer nobody knows; itself where there are none."""
        if self.answered is None or bool(self.answered.all()):
            return self
        kept = self.answered.nonzero()[:, 0]
        of_rows = ("queries", "documents", "query_ids", "document_ids", "scores", "teacher")
        rows = {name: value[kept] for name in of_rows if (value := getattr(self, name)) is not None}
        block = self.block
        if block is not None:
            of_block = ("rows", "targets", "likely", "teacher_queries")
            block = replace(
                block, **{name: value[kept] for name in of_block if (value := getattr(block, name)) is not None}
            )
        return replace(self, **rows, answered=None, block=block)


class Holdings(Protocol):
    """A training set, asked what there is to learn from in it. A streamed set, unread beforehand, cannot be asked."""

    name: str

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def has_answers(self) -> bool:
        """Whether a row has a query and its answer."""
        ...

    def has_other_answers(self) -> bool:
        """Whether two rows differ in query and answer, so that one's answer is a negative of the other."""
        ...

    def has_hard_negatives(self) -> bool:
        """Whether an answered row has a hard negative."""
        ...

    def has_scores(self) -> bool:
        """Whether two documents of one row are judged."""
        ...

    def has_labels(self) -> bool:
        """Whether a row belongs to a class, so that the rows of that class are not negatives of each other."""
        ...


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
