"""What a step of a build is: it owns its name, folder, rows, dependencies, inputs and work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from gecko_core.io import PartList, Progress
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.llm.kept import scores_kept
from gecko_fret.models import Models
from gecko_fret.steps.parts import Layout, Parts, Row, layout_of
from gecko_fret.steps.plan import Plan, StepCost

Input = TypeVar("Input")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Reject:
    """A text that was rejected, and why. ``id`` is that of the row; the field order is the file's column order."""

    stage: str
    reason: str
    id: str
    detail: str
    text: str


_REJECTS = layout_of(Reject)

#: Folder for the scores of parts in the making.
PARTIAL = "partial"


@dataclass(slots=True)
class StepResult(Generic[Row]):
    """Rows that go on, rejected texts, and counters such as tokens."""

    rows: list[Row]
    rejects: list[Reject] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


Work = Callable[[Sequence[Input]], StepResult[Row]]


class BuildContext:
    """What the steps of one build share. Every worker process makes its own from the folder and the configuration.

    Args:
        out: the FRet folder.
        config: the build's configuration.
        corpus: the passages.
        models: LLMs and embedders, loaded when a step first asks for them.

    Attributes:
        listed: the parts that are done, as the manifest lists them; those that are read are checked against it.
        recorded: the manifest as it is now, for what steps before have recorded there.
    """

    def __init__(self, out: Path, config: FretConfig, corpus: Corpus, models: Models):
        self.out, self.config, self.corpus, self.models = out, config, corpus, models
        self.listed = PartList(out)
        self.recorded: Mapping[str, Any] = {}
        self._kept: dict[str, Any] = {}

    def parts(self, step: Step[Row]) -> Parts[Row]:
        """The parts of a step."""
        return self.keep(f"parts of {step.name}", lambda: step.parts(self.out, self.config, self.listed))

    def keep(self, name: str, make: Callable[[], Value]) -> Value:
        """What ``make`` returned the first time: indexes and loaded models serve all parts."""
        if name not in self._kept:
            self._kept[name] = make()
        return cast(Value, self._kept[name])

    def close(self) -> None:
        """Release the models."""
        self._kept.clear()
        self.models.close()


class Step(ABC, Generic[Row]):
    """One step of a build. ``gecko_fret.steps.STEPS`` lists the steps in their order.

    The pipeline, resuming, fingerprints, counts, rejects and cost loop over that list. Besides the steps that read its
    parts, a step is named only where its numbers are shown: in sections of the report, and in the totals of the cost.

    Subclass :class:`PartStep` for work that goes part by part, :class:`WholeStep` for a pass over everything.

    Attributes:
        name: the step's name in the manifest, in progress, in fingerprints and in the names of its reject files.
        section: the configuration's section that it goes by; empty: of its name.
        folder: where its parts are.
        row: data class of its rows; None where its parts are no tables. Override ``layout`` for other columns.
        unit: what its progress counts.
        counted_as: its rows' name in the manifest's counts; None: not counted.
        rejects_as: value of the rejects' ``stage`` column; empty: the step's name.
        must_have_rows: whether a build fails when the step gave no row at all; needs ``counted_as``.
        metered: whether its parts carry counters of tokens.
        recorded_as: key of the manifest that holds what ``record`` returns; None: nothing is recorded.
        upstream: the steps whose parts it reads. The first one decides how its own work is cut into parts.
    """

    name: ClassVar[str]
    section: ClassVar[str] = ""
    folder: ClassVar[str]
    row: ClassVar[type[Any] | None] = None
    unit: ClassVar[str] = "queries"
    counted_as: ClassVar[str | None] = None
    rejects_as: ClassVar[str] = ""
    must_have_rows: ClassVar[bool] = False
    metered: ClassVar[bool] = False
    recorded_as: ClassVar[str | None] = None
    upstream: ClassVar[tuple[Step[Any], ...]] = ()

    @property
    def origin(self) -> str:
        """What has changed when its fingerprint differs: subject and auxiliary verb of the error message."""
        return f"the settings of '{self.section or self.name}' have"

    # -- what it depends on

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """The steps whose fingerprints are part of this step's fingerprint."""
        return self.upstream

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """Everything of the configuration and the models that decides this step's output, as JSON values."""
        return []

    def prompt_hashes(self, config: FretConfig) -> dict[str, str]:
        """Hashes of the prompt files that the step reads, by the configuration's section."""
        return {}

    def check(self, config: FretConfig) -> None:
        """Check the configuration before anything is built.

        Raises:
            ConfigError: the step cannot do what the configuration asks for.
        """

    def check_corpus(self, build: BuildContext) -> None:
        """Check that the corpus has what the step needs, before anything is built; no model is loaded.

        Raises:
            DataError: it has not.
        """

    def format(self, config: FretConfig) -> int:
        """The oldest format of FRet folders that has what the step writes."""
        return 1

    def estimate(self, plan: Plan) -> StepCost | None:
        """Add the expected number of its rows to the plan.

        Returns:
            What the step costs; None where that is not worth a line.
        """
        return None

    # -- what it has on disk

    def layout(self, config: FretConfig) -> Layout[Row]:
        """How its rows are stored."""
        if self.row is None:
            raise TypeError(f"the parts of {self.name} are no tables")
        return layout_of(self.row)

    def common_layout(self) -> Layout[Row]:
        """What ``layout`` has of every build, for reading a folder without its configuration."""
        return self.layout(FretConfig())

    def parts(self, out: Path, config: FretConfig | None = None, listed: PartList | None = None) -> Parts[Row]:
        """Its parts in a FRet folder.

        Args:
            out: the folder.
            config: of the build; without it, columns that only some builds have are left out.
            listed: the build's list of parts, which those that are read are checked against.
        """
        return Parts(out / self.folder, self.layout(config) if config else self.common_layout(), listed=listed)

    def rejects(self, out: Path) -> Parts[Reject]:
        """What it rejected, part by part."""
        return Parts(out / "rejects", _REJECTS, prefix=self.name)

    def part_files(self, out: Path) -> list[Path]:
        """Files of its parts."""
        return sorted((out / self.folder).glob("part-*"))

    def extra_files(self, out: Path) -> list[Path]:
        """Files that it keeps besides parts and rejects."""
        return []

    def own_files(self, out: Path) -> list[Path]:
        """All its files: parts, rejects and others."""
        return [*self.part_files(out), *sorted((out / "rejects").glob(f"part-{self.name}-*")), *self.extra_files(out)]

    def owns(self, name: str) -> bool:
        """Whether a name in the list of parts is that of a file of this step."""
        return name.startswith((f"{self.folder}/part-", f"rejects/part-{self.name}-"))

    def is_complete(self, build: BuildContext) -> bool:
        """Whether everything that a step that is done has made is there, as far as a glance tells."""
        return True

    def clear(self, out: Path) -> None:
        """Delete its parts and rejects; the parts first, because a part that exists says that both are complete."""
        for path in self.part_files(out):
            path.unlink()
        self.rejects(out).clear()

    # -- before and after its work

    def prepare(self, build: BuildContext, progress: Progress) -> None:
        """Do once, in the main process, what must be done before the first part."""

    def record(self, build: BuildContext) -> dict[str, Any]:
        """What the manifest keeps under ``recorded_as`` when the step is done."""
        return {}

    def reject(self, reason: str, identifier: str, text: str, detail: str = "") -> Reject:
        """A rejected text of this step."""
        return Reject(self.rejects_as or self.name, reason, identifier, detail, text)


class PartStep(Step[Row], Generic[Input, Row]):
    """A step whose parts are made one by one, in any order and by any process.

    Attributes:
        distributed: whether an engine may run its parts in other processes.
    """

    distributed: ClassVar[bool] = True

    @abstractmethod
    def inputs(self, build: BuildContext, number: int) -> Sequence[Input]:
        """The input rows of part ``number``: one for each unit of progress."""

    @abstractmethod
    def make(self, build: BuildContext) -> Work[Input, Row]:
        """The function from the inputs of a part to its rows. It serves all parts."""

    def part_count(self, build: BuildContext) -> int:
        """How many parts the step has. Asked when the steps before it are done."""
        return len(build.parts(self.upstream[0]).numbers())

    def units(self, build: BuildContext, number: int) -> int:
        """Units of progress in part ``number``."""
        return build.parts(self.upstream[0]).count(number)

    def answers(self, build: BuildContext, units: int) -> int:
        """About how many answers of LLMs so many units take, for the time left of a long part; 0: unknown."""
        return 0

    def exists(self, build: BuildContext, number: int) -> bool:
        """Whether part ``number`` has been written."""
        return build.parts(self).exists(number)

    def is_complete(self, build: BuildContext) -> bool:
        """See ``Step.is_complete``: every part exists."""
        return all(self.exists(build, number) for number in range(self.part_count(build)))

    def run_part(self, build: BuildContext, number: int) -> int:
        """Make part ``number`` unless it exists.

        Returns:
            Its units of progress.
        """
        if not self.exists(build, number):
            work = build.keep(self.name, lambda: self.make(build))
            with scores_kept(build.out / PARTIAL / f"{self.name}-{number:05d}.txt") if self.metered else nullcontext():
                self.write(build, number, work(self.inputs(build, number)))
        return self.units(build, number)

    def clear(self, out: Path) -> None:
        """See ``Step.clear``; what there is of parts in the making goes, too."""
        super().clear(out)
        for path in (out / PARTIAL).glob(f"{self.name}-*.txt"):
            path.unlink()
        with suppress(OSError):  # others' are there, or it is not
            (out / PARTIAL).rmdir()

    def write(self, build: BuildContext, number: int, result: StepResult[Row]) -> None:
        """Write what the work made of part ``number``."""
        # The rejects come first: a part of the step that exists says that both are complete.
        self.rejects(build.out).write(number, result.rejects)
        build.parts(self).write(number, result.rows, result.counters)


class WholeStep(Step[Row]):
    """A step that passes over everything at once, in the main process. An interrupted pass starts over."""

    @abstractmethod
    def total(self, build: BuildContext) -> int:
        """Units of progress of the whole pass."""

    @abstractmethod
    def run(self, build: BuildContext, advance: Callable[[int], None]) -> None:
        """Write all parts and rejects.

        Args:
            build: the build.
            advance: takes the units done since the last call.

        Raises:
            DataError: nothing is left to go on with.
        """
