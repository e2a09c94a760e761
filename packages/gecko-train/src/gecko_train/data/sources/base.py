"""What a source of training rows is, and what it may draw on."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from gecko_core.io import Section, parse_settings
from gecko_fret.corpus import Corpus
from gecko_train.config import SetConfig
from gecko_train.data.rows import RowSet, TrainingRow

Options = TypeVar("Options", bound=Section)


@dataclass(frozen=True)
class SourceContext:
    """What sources may draw on besides files.

    Attributes:
        corpus: the run's corpus.
        fret: the run's FRet folder.
        scored_documents: documents per row whose scores the objective reads; 0: none.
    """

    corpus: Corpus | None = None
    fret: Path | None = None
    seed: int = 0
    scored_documents: int = 0


class Source(ABC):
    """Where the rows of a training set come from.

    Attributes:
        needs_path: whether a set of this source must name a ``path``.
        run_input: what a set without a path reads of the run: its ``corpus``, its ``fret`` folder, or nothing.
        not_streamed: why its rows cannot be read one after the other while training; empty where they can.
    """

    needs_path: ClassVar[bool] = True
    run_input: ClassVar[Literal["corpus", "fret"] | None] = None
    not_streamed: str = ""

    @abstractmethod
    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """All rows of the set, in a fixed order.

        Raises:
            ConfigError: the set's options are wrong, or something it needs is missing.
            DataError: the data cannot be read.
        """

    def load(self, config: SetConfig, context: SourceContext, name: str) -> RowSet:
        """The first ``config.limit`` rows as a set called ``name``."""
        return RowSet.from_rows(name, itertools.islice(self.rows(config, context), config.limit))


def parse_options(model: type[Options], config: SetConfig) -> Options:
    """The ``options`` of a set, checked.

    Raises:
        ConfigError: an unknown option or a wrong value.
    """
    return parse_settings(model, config.options, f"sets: options of source {config.source!r}")
