"""Steps ``prefinetune`` and ``finetune``: train one model of the journey from the one before it, and save it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import write_json
from gecko_train.config import FinetuneConfig, Recipe, SetConfig
from gecko_train.data.apart import SetApart
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.fret import check_fret_set
from gecko_train.data.sources.registry import run_inputs
from gecko_train.loop.frozen import check_frozen_layers
from gecko_train.loop.lora import check_lora
from gecko_train.run.choice import judge_checkpoints
from gecko_train.run.inputs import Inputs, check_stage, check_student, corpus_input, stage_inputs, student_input
from gecko_train.run.stage import train_stage
from gecko_train.run.steps.base import START, JourneyModel, Step
from gecko_train.run.steps.corpus import check_corpus, read_corpus

if TYPE_CHECKING:
    from gecko_core import Gecko
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

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        starts = {} if self.model.start(recipe).stage else student_input(recipe.student)
        return starts | stage_inputs(self.model.stage, self.model.config(recipe))

    def check(self, recipe: Recipe) -> None:
        """See ``Step``."""
        config = self.model.config(recipe)
        if not self.model.start(recipe).stage:
            check_student(recipe.student)
        check_stage(self.model.stage, config, recipe.student.dims)
        for entry in config.sets:
            if entry.source == "fret":
                try:
                    check_fret_set(entry, config.objective_of(entry), recipe.fret)
                except (ConfigError, DataError) as error:
                    raise type(error)(f"{self.model.stage}.{error}") from None
        check_frozen_layers(recipe.student.model, config.trainer.frozen_layers)
        check_lora(recipe.student.model, config.trainer.lora)

    def outputs(self, recipe: Recipe) -> list[str]:
        """See ``Step``."""
        return [self.model.trained(recipe).folder]

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        config = self.model.config(journey.recipe)
        in_blocks = any(entry.blocks is not None for entry in config.sets)
        return [*map(_described, config.sets), config.trainer.described("blocks" if in_blocks else "rows")]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        recipe = journey.recipe
        config = self.model.config(recipe)
        model = journey.load(self.model.start(recipe))
        context, judge = self._apart(journey)
        result = train_stage(
            model, config, context, journey.folder.path / self.name,
            dims=recipe.student.dims, title=self.model.name, identity=model.weights_hash(), console=journey.console,
            on_checkpoint=judge, inputs=journey.folder.input_hashes(self.name),
        )  # fmt: skip
        model.eval()
        model.dims = tuple(recipe.student.dims)
        journey.keep(model, self.model.trained(recipe))
        record, summary = result.record(config), result.summary
        if journey.folder.writes:
            self.save(journey, record, summary)
        early = " (stopped early: no better for a while)" if summary.stopped_early else ""
        return {
            **record,
            "note": f"{summary.steps} steps on {sum(result.rows.values())} rows{early}, "
            f"{summary.tokens / max(summary.seconds, 1e-9):,.0f} tokens/s, "
            f"loss {summary.first_loss:.3f} -> {summary.last_loss:.3f}",
        }

    def _apart(self, journey: Journey) -> tuple[SourceContext, Callable[[int, Gecko], Mapping[str, float]] | None]:
        """What the sets are read from, without the known items, and what judges checkpoints by these."""
        context, config = self.context(journey), self.model.config(journey.recipe)
        if not isinstance(config, FinetuneConfig):
            return context, None
        items = journey.known_items
        context = dataclasses.replace(context, held_out=items.queries)
        if not config.evaluates_known_items:
            return context, None
        if not items:
            raise ConfigError(
                f"{self.name}.trainer: patience and end_with: best need something to judge checkpoints by, and there "
                "are too few titles, FRet rows and passages to choose by; name sets in trainer.evaluate"
            )
        return context, judge_checkpoints(items, journey.recipe.student.dims)

    def context(self, journey: Journey) -> SourceContext:
        """What the sets are read from: the passages left for training, and the FRet data of this run."""
        held_out = journey.held_out
        apart = SetApart(held_out.texts)
        return SourceContext(held_out.training, journey.folder.path / "fret", journey.recipe.seed, apart=apart)

    def save(self, journey: Journey, record: Mapping[str, Any], summary: TrainingSummary) -> None:
        """Save the trained model with the record of all steps so far."""
        journey.save(self.model.trained(journey.recipe), journey.card({self.name: record}))


def _described(entry: SetConfig) -> str:
    path = f" {entry.path}" if entry.path else ""
    most = f", at most {entry.limit} rows" if entry.limit else ""
    return f"{entry.source}{path}{most}"


class TrainAlone(Train):
    """One stage without the rest of the journey: the student as it is, sets that exist, no held-out test."""

    def __init__(self, stage: str):
        super().__init__(JourneyModel(stage, stage, "model", START), stage)

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``; who asks for one stage gets it, enabled or not."""
        return True

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        return super().inputs(recipe) | (corpus_input(recipe.corpus.path) if self._reads_corpus(recipe) else {})

    def check(self, recipe: Recipe) -> None:
        """See ``Step``."""
        if self._reads_corpus(recipe):
            check_corpus(recipe)
        super().check(recipe)

    def context(self, journey: Journey) -> SourceContext:
        """The whole corpus, where a set is made of it."""
        corpus = read_corpus(journey.recipe, journey.folder) if self._reads_corpus(journey.recipe) else None
        return SourceContext(corpus, None, journey.recipe.seed)

    def _reads_corpus(self, recipe: Recipe) -> bool:
        return "corpus" in run_inputs(self.model.config(recipe).sets)

    def save(self, journey: Journey, record: Mapping[str, Any], summary: TrainingSummary) -> None:
        """Save the model, and what the trainer did as ``summary.json``."""
        recipe = journey.recipe
        card = {"name": recipe.name, "recipe": recipe.name, "start_model": recipe.student.model}
        journey.save(self.model.trained(recipe), {**card, "stages": {self.name: dict(record)}})
        write_json(journey.folder.path / "summary.json", dataclasses.asdict(summary))
