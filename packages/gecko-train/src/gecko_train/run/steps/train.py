"""Steps ``prefinetune`` and ``finetune``: train one model of the journey from the one before it, and save it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gecko_core.io import write_json
from gecko_fret.corpus import load_corpus
from gecko_train.config import Recipe
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import run_inputs
from gecko_train.run.stage import train_stage
from gecko_train.run.steps.base import START, JourneyModel, Step

if TYPE_CHECKING:
    from gecko_train.loop.watch import TrainingSummary
    from gecko_train.run.journey import Journey


@dataclass
class Train(Step):
    """Trains on the sets of the recipe's section and saves the model with its record."""

    model: JourneyModel
    title: str
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.model.stage

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``."""
        return self.model.made_by(recipe)

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        recipe = journey.recipe
        config = self.model.config(recipe)
        model = journey.load(self.model.start(recipe))
        result = train_stage(
            model, config, self.context(journey), journey.folder.path / self.name,
            dims=recipe.student.dims, title=self.model.name, identity=model.weights_hash(), console=journey.console,
        )  # fmt: skip
        model.eval()
        journey.keep(model, self.model)
        record, summary = result.record(config), result.summary
        if journey.folder.writes:
            self.save(journey, record, summary)
        return {
            **record,
            "note": f"{summary.steps} steps on {sum(result.rows.values())} rows, "
            f"{summary.tokens / max(summary.seconds, 1e-9):,.0f} tokens/s, "
            f"loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}",
        }

    def context(self, journey: Journey) -> SourceContext:
        """What the sets are read from: the passages left for training, and the FRet data of this run."""
        return SourceContext(journey.held_out.training, journey.folder.path / "fret", journey.recipe.seed)

    def save(self, journey: Journey, record: Mapping[str, Any], summary: TrainingSummary) -> None:
        """Save the trained model with the record of all steps so far."""
        journey.save(self.model, journey.card(self.model, record))


class TrainAlone(Train):
    """One stage without the rest of the journey: the student as it is, sets that exist, no held-out test."""

    def __init__(self, stage: str):
        super().__init__(JourneyModel(stage, stage, "model", START), stage)

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``; who asks for one stage gets it, enabled or not."""
        return True

    def context(self, journey: Journey) -> SourceContext:
        """The whole corpus, where a set is made of it."""
        reads_corpus = "corpus" in run_inputs(self.model.config(journey.recipe).sets)
        corpus = load_corpus(journey.recipe.corpus.path) if reads_corpus else None
        return SourceContext(corpus, None, journey.recipe.seed)

    def save(self, journey: Journey, record: Mapping[str, Any], summary: TrainingSummary) -> None:
        """Save the model, and what the trainer did as ``summary.json``."""
        recipe = journey.recipe
        card = {"name": recipe.name, "recipe": recipe.name, "start_model": recipe.student.model}
        journey.save(self.model, {**card, "stages": {self.name: dict(record)}})
        write_json(journey.folder.path / "summary.json", dataclasses.asdict(summary))
