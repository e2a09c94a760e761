"""The corpus itself, as parts that every later step and every reader of the folder joins ids to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gecko_core.errors import DataError
from gecko_core.io import PartList
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import SCHEMA, Corpus, Passage
from gecko_fret.steps.base import BuildContext, PartStep, StepResult, Work
from gecko_fret.steps.parts import Layout, part_count
from gecko_fret.steps.plan import Plan, StepCost


class CorpusStep(PartStep[Passage, Passage]):
    """Passages to the folder, and what the readers left out to the rejects."""

    name = "corpus"
    folder = "corpus"
    unit = "passages"
    counted_as = "passages"
    distributed = False  # only the main process has read the corpus

    @property
    def origin(self) -> str:
        """See ``Step.origin``."""
        return "the corpus has"

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The passages, how they are cut into parts, and the rules of text; version 0.1 had only the first."""
        version = build.config.corpus.rules.version
        return [build.corpus.hash, build.config.corpus.part_size, *([f"text rules {version}"] if version > 1 else [])]

    def estimate(self, plan: Plan) -> StepCost:
        """See ``Step.estimate``."""
        plan.rows["passages"] = plan.passages
        return StepCost(f"{plan.corpus}: {plan.passages} passages of {plan.mean_characters:.0f} characters on average")

    def layout(self, config: FretConfig) -> Layout[Passage]:
        """The corpus' own columns."""
        return Layout(
            SCHEMA,
            lambda passage: {name: getattr(passage, name) for name in SCHEMA.names},
            lambda record: Passage(**record),
        )

    def part_count(self, build: BuildContext) -> int:
        """Parts that the corpus fills."""
        return part_count(len(build.corpus), build.config.corpus.part_size)

    def units(self, build: BuildContext, number: int) -> int:
        """Passages of part ``number``."""
        size = build.config.corpus.part_size
        return min(size, len(build.corpus) - number * size)

    def inputs(self, build: BuildContext, number: int) -> Sequence[Passage]:
        """Passages of part ``number``."""
        size = build.config.corpus.part_size
        return [Passage(**record) for record in build.corpus.table.slice(number * size, size).to_pylist()]

    def make(self, build: BuildContext) -> Work[Passage, Passage]:
        """Hand the passages on; what the readers dropped goes with the first part."""
        dropped = [self.reject(d.reason, d.id, d.text, d.detail) for d in build.corpus.dropped]
        first = build.corpus[0]

        def copy(passages: Sequence[Passage]) -> StepResult[Passage]:
            return StepResult(list(passages), dropped if passages[0].id == first.id else [])

        return copy

    def read(self, out: Path, listed: PartList | None = None) -> Corpus:
        """The corpus as a folder keeps it.

        Args:
            out: the folder.
            listed: the build's list of parts.

        Raises:
            DataError: it has no part, or a damaged one.
        """
        parts = self.parts(out, listed=listed)
        parts.check()
        numbers = parts.numbers()
        if not numbers:
            raise DataError(f"{out / self.folder}: no corpus part; run the build again")
        table = pa.concat_tables([parts.table(number).select(SCHEMA.names) for number in numbers])
        return Corpus.from_table(table, str(out))


CORPUS = CorpusStep()
