"""The training objective: the Gecko loss and, each with a weight, further terms. A new term is one field here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from gecko_core.errors import ConfigError
from gecko_train.loss.base import Block, Holdings, LossBatch, Needs, TermConfig
from gecko_train.loss.block import BlockConfig
from gecko_train.loss.contrastive import ContrastiveConfig, ContrastiveTerm
from gecko_train.loss.kl import KlConfig, ScoresConfig
from gecko_train.loss.matching import MatchingConfig
from gecko_train.loss.spread_out import SpreadOutConfig

if TYPE_CHECKING:
    from torch import Tensor


class ObjectiveFields(ContrastiveConfig):
    """The options of the Gecko loss and a section for each further term, some of which a set may override.

    A field whose type is a ``TermConfig`` is a term: it is added to the loss in the order of the fields.
    """

    renamed: ClassVar = {
        "kl_weight": "kl.weight",
        "kl_documents": "kl.documents",
        "kl_teacher_temperature": "kl.teacher_temperature",
        "matching_weight": "matching.weight",
    }

    kl: KlConfig = Field(default_factory=KlConfig)
    block: BlockConfig = Field(default_factory=BlockConfig)
    matching: MatchingConfig = Field(default_factory=MatchingConfig)
    spread_out: SpreadOutConfig = Field(default_factory=SpreadOutConfig)


class ObjectiveConfig(ObjectiveFields):
    """A whole objective, whose fields go together."""

    @model_validator(mode="after")
    def _checked(self) -> ObjectiveConfig:
        self.check()
        return self

    @property
    def terms(self) -> dict[str, TermConfig]:
        """The sections of the terms whose weight is not 0, by name."""
        return {name: section for name, section in self._sections.items() if section.weight}

    @property
    def teacher_terms(self) -> list[str]:
        """The names of the terms, on or off, that read the vectors of a teacher model."""
        return [name for name, section in self._sections.items() if section.term().needs.teacher]

    @property
    def needs_teacher(self) -> bool:
        """Whether a term that is on reads the vectors of a teacher model."""
        return any(name in self.terms for name in self.teacher_terms)

    @property
    def needs_block(self) -> bool:
        """Whether a term that is on reads a block."""
        return any(need.block for need in self._needs)

    @property
    def reads_unanswered(self) -> bool:
        """Whether a term that is on learns from queries without a known answer: from scores, or from a teacher."""
        return any(need.scores or need.teacher for need in self._needs)

    @property
    def scored_documents(self) -> int:
        """Documents per row whose scores the terms read; 0: none."""
        return max((need.documents for need in self._needs if need.scores and not need.block), default=0)

    @property
    def projects(self) -> bool:
        """Whether matching needs a projection to the teacher's width."""
        return bool(self.matching.weight and self.matching.projection)

    def targets(self, block: bool) -> tuple[str | None, float | None]:
        """The judge whose scores are the targets, and the teacher temperature, as the recipe names them.

        Args:
            block: in batches that are blocks, where the term of the block goes before.
        """
        sections: list[ScoresConfig] = [self.block, self.kl] if block else [self.kl, self.block]
        section: Any = next((section for section in sections if section.weight), sections[0])
        return section.score, section.teacher_temperature

    @property
    def _needs(self) -> list[Needs]:
        return [section.term().needs for section in self.terms.values()]

    @property
    def _sections(self) -> dict[str, TermConfig]:
        sections = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in sections.items() if isinstance(section, TermConfig)}

    def overridden(self, override: ObjectiveFields | None) -> ObjectiveConfig:
        """A copy with the fields that were set in ``override``, nested sections included.

        Raises:
            ValidationError: the fields do not go together.
        """
        if override is None:
            return self
        return type(self).model_validate(_merged(self.model_dump(), override.model_dump(exclude_unset=True)))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return values | {
        key: _merged(values[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }


class Objective:
    """The training loss over the embeddings of one global batch.

    Args:
        config: options of the Gecko loss, weights and options of the further terms.
        dims: Matryoshka dims of the model, used unless the config names its own.

    Raises:
        ConfigError: a dim is larger than the model's.
    """

    def __init__(self, config: ObjectiveConfig, dims: Sequence[int]):
        self.config = config
        self.dims = tuple(config.dims or dims)
        if max(self.dims) > max(dims):
            raise ConfigError(f"objective.dims: {max(self.dims)} is larger than the model's {max(dims)}; leave it out")
        self._contrastive = ContrastiveTerm(config, self.dims)
        self._terms = {name: (section.weight, section.term()) for name, section in config.terms.items()}

    @property
    def documents(self) -> int:
        """Documents per row that the loss looks at: the largest number that a term needs."""
        needs = [self._contrastive.needs, *(term.needs for _, term in self._terms.values())]
        return max(need.documents for need in needs)

    def refusal(self, rows: Holdings) -> str | None:
        """Why a set must not be trained on with these options, and the cure; None where it may be.

        Args:
            rows: the set.
        """
        return self._contrastive.refusal(rows) if self.config.contrastive_weight else None

    def lacks(self, rows: Holdings) -> dict[str, str]:
        """Say which terms that are on can learn nothing from a set.

        What batches and a teacher give them, and sets that cannot be asked, is not looked at.

        Args:
            rows: the set.

        Returns:
            What the set lacks, and the cure, by name of the term.
        """
        found: dict[str, str] = {}
        lack = self._contrastive.lack(rows) if self.config.contrastive_weight else None
        if lack is not None:
            found["contrastive"] = lack
        for name, (_, term) in self._terms.items():
            if term.needs.scores and not rows.has_scores():
                found[name] = (
                    f"no row has scores of two documents, without which objective.{name} learns nothing; name a set "
                    f"with scores (source fret), or objective.{name}.weight: 0"
                )
        return found

    @property
    def names(self) -> list[str]:
        """The terms that are on."""
        return [*(["contrastive"] if self.config.contrastive_weight else []), *self._terms]

    def __call__(
        self,
        queries: Tensor,  # (B, D)
        documents: Tensor,  # (B, M, D)
        query_ids: Tensor,  # (B,)
        document_ids: Tensor,  # (B, M)
        scores: Tensor | None = None,  # (B, M), NaN where nobody judged
        teacher: Tensor | None = None,  # (B, 1 + M, E), another model's vectors of query and documents
        *,
        answered: Tensor | None = None,  # (B,) bool; None: all
        block: Block | None = None,
        projection: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Add up the terms; one whose scores, teacher vectors or block are not given is left out.

        Returns:
            The loss (scalar, mean over rows) and what to watch: mean similarities and, where there are several, the
            single terms.
        """
        config = self.config
        batch = LossBatch(
            queries, documents, query_ids, document_ids, scores, teacher, config.temperature, self.dims,
            tuple(config.dim_weights) if config.dim_weights else None, answered, block, projection,
        )  # fmt: skip
        parts: dict[str, Tensor] = {}
        watched: dict[str, Tensor] = {}
        loss = queries.sum() * 0.0
        if config.contrastive_weight:
            parts["contrastive"], watched = self._contrastive(batch)
            loss = config.contrastive_weight * parts["contrastive"]
        for name, (weight, term) in self._terms.items():
            if not _given(term.needs, batch):
                continue
            parts[name], numbers = term(batch)
            loss = loss + weight * parts[name]
            watched |= numbers
        if len(parts) > 1 or "left_out" in watched or not config.contrastive_weight:
            watched |= parts
        return loss, {name: float(value.detach()) for name, value in watched.items()}


def _given(needs: Needs, batch: LossBatch) -> bool:
    """Whether a batch holds what a term reads."""
    block = batch.block
    if needs.block:
        return block is not None and (not needs.teacher or block.teacher_documents is not None)
    if needs.teacher:
        return batch.teacher is not None or (block is not None and block.teacher_documents is not None)
    return not needs.scores or batch.scores is not None
