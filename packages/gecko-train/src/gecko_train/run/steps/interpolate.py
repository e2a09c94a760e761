"""Step ``interpolate``: go back from the trained weights towards those of the start, as far as known items support."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gecko_core.io import make_progress
from gecko_train.config import Recipe
from gecko_train.run.choice import Measured, best_of, choice_lines, measure
from gecko_train.run.steps.base import START, JourneyModel, Step
from gecko_train.run.weights import Method, set_between, weights_of

if TYPE_CHECKING:
    from torch import Tensor

    from gecko_core import Gecko
    from gecko_train.run.journey import Journey

SHARES = (0.25, 0.5, 0.75, 1.0)


def _percent(share: float) -> str:
    return f"{share:.0%}"


@dataclass(frozen=True)
class Candidate:
    """A model that can be saved: one as it is, with its own prompts (share 0), or a share of the way to the trained."""

    name: str
    share: float = 0.0


@dataclass
class Interpolate(Step):
    """Measures the models between start and end of training on the known items, and saves the one that they support.

    Where training started from a model that is not the student as it is, the student is one of them, too.
    """

    model: JourneyModel
    title: str = "interpolate with the start model"
    name: str = "interpolate"

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``."""
        return self.model.made_by(recipe) and recipe.finetune.interpolate is not None

    def outputs(self, recipe: Recipe) -> list[str]:
        """See ``Step``."""
        return [self.model.folder]

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        share = journey.recipe.finetune.interpolate
        if share != "auto":
            return [f"{share:g} of the way to the trained model is saved"]
        return [
            f"the models at {', '.join(map(_percent, (0, *SHARES)))} of the way are measured on known items; saved "
            "is the share that they support"
        ]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``; what training left stays where it is, so that a killed run can begin this step again."""
        if not journey.folder.writes:
            return {"note": ""}
        config, base = journey.recipe.finetune, self.model.start(journey.recipe)
        way = Way(journey, base, self.model.trained(journey.recipe), config.interpolation)
        names = dict.fromkeys([START.name, base.name])
        candidates = [*(Candidate(name) for name in names), *(Candidate(self.model.name, share) for share in SHARES)]
        measured: list[Measured] = []
        by = "items"
        if isinstance(config.interpolate, float):
            by, share = "recipe", config.interpolate
            chosen = Candidate(self.model.name, share) if share else Candidate(base.name)
        elif journey.known_items:
            measured = list(self._measure(journey, way, candidates))
            chosen = candidates[best_of(measured, len(names))]
        else:
            by, chosen = "nothing", candidates[-1]
        record: dict[str, Any] = {
            "by": by,
            "saved": chosen.name,
            "share": chosen.share,
            "method": config.interpolation,
            "base": base.name,
            **_table(candidates, measured),
        }
        record["note"] = choice_lines(record)[0]
        journey.keep(way.load(chosen), self.model)
        training = {key: value for key, value in journey.results[self.model.stage].items() if key != "note"}
        journey.save(self.model, journey.card({self.model.stage: training, self.name: record}))
        return record

    def _measure(self, journey: Journey, way: Way, candidates: Sequence[Candidate]) -> Iterator[Measured]:
        items, dims = journey.known_items, journey.recipe.student.dims
        progress = make_progress(True, journey.console)
        progress.start("known items", len(candidates), 0, "models")
        for candidate in candidates:
            yield measure(way.load(candidate), items, dims)
            progress.advance()
        progress.finish()


class InterpolateAlone(Interpolate):
    """After one stage without the rest of the journey."""

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``; whether the stage is enabled does not matter."""
        return recipe.finetune.interpolate is not None


class Way:
    """The models on the way from one to another.

    Args:
        journey: the run.
        base: where training started.
        trained: where it ended.
        method: of the interpolation.
    """

    def __init__(self, journey: Journey, base: JourneyModel, trained: JourneyModel, method: Method):
        self._journey, self._base, self._trained, self._method = journey, base, trained, method
        self._ends: tuple[dict[str, Tensor], dict[str, Tensor]] | None = None

    def load(self, candidate: Candidate) -> Gecko:
        """The model in evaluation mode; one that was loaded before is given up."""
        if not candidate.share:
            model = self._fresh(START if candidate.name == START.name else self._base)
        else:
            if self._ends is None:
                start = weights_of(self._fresh(self._base))
                self._ends = start, weights_of(self._fresh(self._trained))
            model = self._journey.load(self._trained)
            set_between(model, *self._ends, candidate.share, self._method)
        model.eval()
        return model

    def _fresh(self, model: JourneyModel) -> Gecko:
        self._journey.forget_model()
        return self._journey.load(model)


def _table(candidates: Sequence[Candidate], measured: Sequence[Measured]) -> dict[str, Any]:
    """Every candidate's values, and its differences to each model that stands as it is."""
    if not measured:
        return {}
    as_they_are = {of.name: values for of, values in zip(candidates, measured, strict=True) if not of.share}
    return {
        "items": {kind: len(values) for kind, values in measured[0].kinds.items()},
        "measured": [
            {
                "model": candidate.name,
                "share": candidate.share,
                "score": of_it.score,
                **of_it.means(),
                "against": {name: of_it.against(other) for name, other in as_they_are.items()},
            }
            for candidate, of_it in zip(candidates, measured, strict=True)
        ],
    }
