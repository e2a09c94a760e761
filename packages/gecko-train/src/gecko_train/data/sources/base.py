"""What a source of training rows is, and what it may draw on."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from gecko_core.io import HUB, Section, find_data, parse_settings
from gecko_core.text_identity import text_id
from gecko_fret.corpus import Corpus, check_corpus
from gecko_train.config import SetConfig
from gecko_train.data.apart import SetApart
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import RowSet, TrainingRow

if TYPE_CHECKING:
    from gecko_train.data.teacher import TeacherVectors
    from gecko_train.loss.objective import ObjectiveConfig

Options = TypeVar("Options", bound=Section)


@dataclass(frozen=True)
class SourceContext:
    """What sources may draw on besides files.

    Attributes:
        corpus: the run's corpus.
        fret: the run's FRet folder.
        scored_documents: documents per row whose scores the objective reads; 0: none.
        score: the judge whose scores it reads; None: the calibrated probabilities, or fused scores.
        teacher_temperature: by which the objective divides them; None: the default.
        hard_negatives: of each row, for the contrastive loss.
        false_negative_share: candidates above this share of a row's best are no hard negatives.
        unanswered: whether the objective learns from queries without a known answer.
        teacher: vectors of the stage's teacher.
        held_out: ids of the texts of queries that are set apart (`gecko_train.data.known_items`).
        apart: queries and passages of the run's test and known titles; None for what the run made without them.
    """

    corpus: Corpus | None = None
    fret: Path | None = None
    seed: int = 0
    scored_documents: int = 0
    score: str | None = None
    teacher_temperature: float | None = None
    hard_negatives: int = 1
    false_negative_share: float | None = None
    unanswered: bool = False
    teacher: TeacherVectors | None = None
    held_out: frozenset[int] = frozenset()
    apart: SetApart | None = None

    def left(self, rows: Iterable[TrainingRow]) -> Iterator[TrainingRow]:
        """The rows whose query is not set apart, without texts that are."""
        if self.held_out:
            rows = (row for row in rows if row.query is None or text_id(row.query) not in self.held_out)
        if self.apart is None:
            return iter(rows)
        return (kept for kept in map(self.apart.left, rows) if kept is not None)

    def reading(self, objective: ObjectiveConfig, block: bool) -> SourceContext:
        """The context for a set with this objective.

        Args:
            objective: the stage's, with what the set overrides.
            block: whether its batches are blocks.
        """
        score, temperature = objective.targets(block)
        return replace(
            self,
            scored_documents=objective.scored_documents,
            score=score,
            teacher_temperature=temperature,
            hard_negatives=objective.hard_negatives if objective.contrastive_weight else 0,
            false_negative_share=objective.false_negative_share,
            unanswered=objective.reads_unanswered,
        )


class NoOptions(Section):
    """Of a source that has none."""


class Source(ABC):
    """Where the rows of a training set come from.

    Attributes:
        options: model of the set's ``options``, which are checked before a run starts; None: not before rows are read.
        needs_path: whether a set of this source must name a ``path``.
        run_input: what a set without a path reads of the run: its ``corpus``, its ``fret`` folder, or nothing.
        has_scores: whether its rows may carry judges' scores of their documents.
        not_streamed: why its rows cannot be read one after the other while training; empty where they can.
        cure: what helps where a set has no rows.
    """

    options: ClassVar[type[Section] | None] = None
    needs_path: ClassVar[bool] = True
    run_input: ClassVar[Literal["corpus", "fret"] | None] = None
    has_scores: ClassVar[bool] = False
    not_streamed: str = ""
    cure: str = "a set needs at least one"

    @property
    def has_blocks(self) -> bool:
        """Whether its queries have candidates that batches can be made blocks of: it has a ``blocks`` of its own."""
        return type(self).blocks is not Source.blocks

    def check(self, config: SetConfig) -> None:
        """Check what the recipe says of a set, and that its file or folder is of the source's kind; little is read.

        Raises:
            ConfigError: a wrong option.
            DataError: a file that the options name is not there, or what is at the path cannot be read as this source.
        """
        if self.options is not None:
            parse_options(self.options, config)

    def files(self, config: SetConfig) -> dict[str, str]:
        """Files that the set's options name, by the option; beside its ``path``."""
        return {}

    @abstractmethod
    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """All rows of the set, in a fixed order.

        Raises:
            ConfigError: the set's options are wrong, or something it needs is missing.
            DataError: the data cannot be read.
        """

    def load(self, config: SetConfig, context: SourceContext, name: str) -> RowSet:
        """The first ``config.limit`` rows as a set called ``name``."""
        return RowSet.from_rows(name, itertools.islice(context.left(self.rows(config, context)), config.limit))

    def blocks(self, config: SetConfig, context: SourceContext, name: str) -> BlockSet:
        """The first ``config.limit`` queries as a set called ``name`` whose batches are blocks.

        Raises:
            ConfigError: as for ``rows``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no blocks")


def check_path(config: SetConfig) -> None:
    """Check that the path of a set, if it has one, is a corpus.

    Raises:
        DataError: it is none.
    """
    if config.path and not config.path.startswith(HUB):
        check_corpus(find_data(config.path))


def parse_options(model: type[Options], config: SetConfig) -> Options:
    """The ``options`` of a set, checked.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    return parse_settings(model, config.options, f"sets: options of source {config.source!r}")
