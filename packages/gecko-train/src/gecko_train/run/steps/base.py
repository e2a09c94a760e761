"""What a step of a journey is, and the models that steps make and measure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gecko_train.config import FinetuneConfig, MntpConfig, Recipe, StageConfig
from gecko_train.run.inputs import Inputs

if TYPE_CHECKING:
    from gecko_train.run.journey import Journey


class Step(ABC):
    """One step of a journey: it runs once, and its result stays in ``stages/NAME.json``.

    Attributes:
        name: name of the result's file.
        title: heading on the screen; an empty one makes a silent step that is not counted.
    """

    name: str
    title: str

    def wanted(self, recipe: Recipe) -> bool:
        """Whether the recipe asks for this step."""
        return True

    def inputs(self, recipe: Recipe) -> Inputs:
        """Files and folders outside of the run that the step reads, by their names in the recipe."""
        return {}

    def check(self, recipe: Recipe) -> None:  # noqa: B027 - most steps need nothing that could be missing
        """Check, before the first step runs, what this one would stop at when it is its turn.

        Raises:
            GeckoError: what is missing, in one line.
        """

    def plan(self, journey: Journey) -> list[str]:
        """What ``work`` would do, in lines for the screen; no model is loaded, nothing is written.

        Raises:
            GeckoError: as ``work`` does, where it is known by now.
        """
        return []

    def outputs(self, recipe: Recipe) -> list[str]:
        """Files and model folders that the step makes, below the run's folder."""
        return []

    @abstractmethod
    def work(self, journey: Journey) -> Mapping[str, Any]:
        """Do the work.

        Args:
            journey: the recipe, the output folder and the models and results of earlier steps.

        Returns:
            What JSON can hold; ``note`` is the line on the screen.

        Raises:
            GeckoError: anything a user can cause, in one line.
        """


@dataclass(frozen=True)
class JourneyModel:
    """A model that a journey evaluates and trains from.

    Attributes:
        name: what tables call it.
        stage: section of the recipe that trains it; empty for the student as it is.
        folder: where it is saved, relative to the output folder.
        base: the model before it.
    """

    name: str
    stage: str = ""
    folder: str = ""
    base: JourneyModel | None = None

    def made_by(self, recipe: Recipe) -> bool:
        """Whether a run of the recipe has this model."""
        if not self.stage:
            return True
        section: StageConfig | MntpConfig = getattr(recipe, self.stage)
        return section.enabled

    def config(self, recipe: Recipe) -> StageConfig:
        """The section of the recipe that trains it on sets."""
        config: StageConfig = getattr(recipe, self.stage)
        return config

    def trained(self, recipe: Recipe) -> JourneyModel:
        """The model as training leaves it: in a folder of its own where it is interpolated afterwards."""
        config = self.config(recipe)
        interpolated = isinstance(config, FinetuneConfig) and config.interpolate is not None
        return replace(self, folder=f"{self.stage}/model") if interpolated else self

    def start(self, recipe: Recipe) -> JourneyModel:
        """The model its training starts from: the nearest one before it that the recipe makes."""
        base = self.base or self
        return base if base.made_by(recipe) else base.start(recipe)

    @property
    def evaluation(self) -> str:
        """Name of the step that evaluates it."""
        return "evaluate-" + self.name.replace("-", "")


START = JourneyModel("start")
MNTP = JourneyModel("bidirectional", "mntp", "mntp/model", START)
PREFINETUNED = JourneyModel("pre-finetuned", "prefinetune", "prefinetune/model", MNTP)
FINETUNED = JourneyModel("fine-tuned", "finetune", "model", PREFINETUNED)
MODELS: tuple[JourneyModel, ...] = (START, MNTP, PREFINETUNED, FINETUNED)
