"""The journey of a recipe, a list of steps: corpus, pre-finetuning, FRet, fine-tuning, each model measured.

Every step leaves its result in the output folder before the next begins, so a run that was stopped goes on where it
was, and a finished one only shows its closing screen again. To add a step, write a ``Step`` in a file of
``gecko_train/run/steps`` and put it into ``STEPS``.
"""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from gecko_core.errors import ConfigError
from gecko_core.io import format_seconds, read_json
from gecko_train.config import FinetuneConfig, Recipe
from gecko_train.data.holdout import HeldOut, hold_out
from gecko_train.data.known_items import KnownItems, known_items
from gecko_train.data.sources.registry import run_inputs
from gecko_train.loop.watch import make_console
from gecko_train.run.closing import closing_screen
from gecko_train.run.folder import RunFolder, peak_memory_gb
from gecko_train.run.steps.base import FINETUNED, MNTP, PREFINETUNED, START, JourneyModel, Step
from gecko_train.run.steps.close import Close
from gecko_train.run.steps.corpus import ReadCorpus, read_corpus
from gecko_train.run.steps.evaluate import Evaluate
from gecko_train.run.steps.fret import BuildFret
from gecko_train.run.steps.interpolate import Interpolate, InterpolateAlone
from gecko_train.run.steps.mntp import Mntp, MntpAlone
from gecko_train.run.steps.train import Train, TrainAlone

if TYPE_CHECKING:
    from gecko_core import Gecko
    from gecko_fret.corpus import Corpus

# What `gecko-train run` does, in this order; a step that the recipe does not want is left out.
STEPS: tuple[Step, ...] = (
    ReadCorpus(),
    Evaluate(START, "evaluate the start model"),
    Mntp(),
    Evaluate(MNTP),
    Train(PREFINETUNED, "pre-finetune on title-body pairs"),
    Evaluate(PREFINETUNED),
    BuildFret(),
    Train(FINETUNED, "fine-tune"),
    Interpolate(FINETUNED),
    Evaluate(FINETUNED),
    Close(),
)


def run_recipe(recipe: Recipe, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe in its output folder, go on with it, or show it again.

    Args:
        recipe: the recipe.
        console: where to print; standard output by default.

    Returns:
        What ``results.json`` holds.

    Raises:
        GeckoError: anything a user can cause, in one line.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "run: the whole journey is for one process; with torchrun use `prefinetune`, then `gecko-fret build`, then "
            "`finetune`"
        )
    console = console or make_console()
    with RunFolder.claim(recipe.folder, recipe) as folder:
        journey = Journey(folder.recipe, folder, console, STEPS)
        results = journey.finished(Close.name)
        if results is None:
            results = journey.run()[Close.name]
        else:
            console.print(
                f"{folder.path}: this run finished on {results['finished']}; nothing is run again", highlight=False
            )
        closing_screen(console, results, folder.path)
    return results


def run_stage(recipe: Recipe, stage: Literal["prefinetune", "finetune"], console: Console | None = None) -> None:
    """Train the recipe's student on one stage's sets; the model goes to ``model`` in the output folder.

    Args:
        recipe: the recipe.
        stage: the section with the sets.
        console: where to print; standard output by default.

    Raises:
        ConfigError: a FRet set has no path, or the output folder is another run's.
    """
    steps = steps_of_stage(recipe, stage)
    console = console or make_console()
    with RunFolder.claim(recipe.folder, recipe) as folder:
        Journey(for_one_stage(folder.recipe), folder, console, steps).run()
        if folder.writes:
            console.print(f"model: {folder.path / steps[0].model.folder}", highlight=False, soft_wrap=True)


def steps_of_stage(
    recipe: Recipe, stage: Literal["prefinetune", "finetune"]
) -> Sequence[TrainAlone | InterpolateAlone]:
    """The steps of one stage alone.

    Args:
        recipe: the recipe.
        stage: the section with the sets.

    Raises:
        ConfigError: a FRet set has no path, or there is nothing to judge checkpoints by.
    """
    step = TrainAlone(stage)
    if "fret" in run_inputs(step.model.config(recipe).sets):
        raise ConfigError(f"{stage}.sets: source 'fret' needs a path here; give the folder `gecko-fret build` wrote")
    finetune = recipe.finetune
    if stage == "finetune" and finetune.evaluates_known_items and not _has_rows(finetune):
        raise ConfigError(
            "finetune.trainer: patience and end_with: best need something to judge checkpoints by, and without a FRet "
            "set this stage alone has nothing; name sets in trainer.evaluate"
        )
    return [step] if stage == "prefinetune" else [step, InterpolateAlone(step.model)]


def _has_rows(finetune: FinetuneConfig) -> bool:
    """Whether one stage alone has known items: only FRet's rows can be set apart."""
    return any(entry.source == "fret" for entry in finetune.sets)


def run_mntp(recipe: Recipe, console: Console | None = None) -> None:
    """Train the recipe's student by masked next-token prediction; the model goes to ``model`` in the output folder.

    Args:
        recipe: the recipe.
        console: where to print; standard output by default.

    Raises:
        ConfigError: the student is no language model, several processes, or the output folder is another run's.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("mntp: is for one process; start it without torchrun")
    console = console or make_console()
    with RunFolder.claim(recipe.folder, recipe) as folder:
        step = MntpAlone()
        Journey(folder.recipe, folder, console, [step]).run()
        console.print(f"model: {folder.path / step.model.folder}", highlight=False, soft_wrap=True)


def for_one_stage(recipe: Recipe) -> Recipe:
    """The recipe without a choice where one stage alone has nothing to choose by."""
    finetune = recipe.finetune
    if finetune.interpolate != "auto" or _has_rows(finetune):
        return recipe
    return recipe.model_copy(update={"finetune": finetune.model_copy(update={"interpolate": None})})


class Journey:
    """Runs steps, and holds what they share; what a finished step had in memory is loaded again when asked for.

    Args:
        recipe: the recipe.
        folder: its output folder.
        console: where headings and notes go.
        steps: those to run; the ones that the recipe does not want are left out.

    Attributes:
        steps: the steps that run.
        results: the result of each step so far, by name.
    """

    def __init__(self, recipe: Recipe, folder: RunFolder, console: Console, steps: Sequence[Step]):
        self.recipe = recipe
        self.folder = folder
        self.console = console if folder.writes else Console(quiet=True)
        self.steps = [step for step in steps if step.wanted(recipe)]
        self.results: dict[str, dict[str, Any]] = {}
        self._model: tuple[JourneyModel, Gecko] | None = None
        for step in self.steps:
            folder.bind(step.name, step.inputs(recipe), step.outputs(recipe))

    def finished(self, name: str) -> dict[str, Any] | None:
        """The result of a step, where it is finished and so is everything that was done before it.

        Raises:
            ConfigError: what a finished step read has changed, or is gone.
            DataError: a result is damaged, or what a step made has been changed.
        """
        unsound = [step.name for step in self.steps if self._is_lost(step)]
        return self.folder.finished(name) if not unsound else None

    def _is_lost(self, step: Step) -> bool:
        """Whether a step was finished once, and what it made is gone."""
        return self.folder.is_kept(step.name) and self.folder.finished(step.name) is None

    def check(self) -> None:
        """Check what the steps that have not run would stop at.

        Raises:
            GeckoError: what is missing, in one line.
        """
        for step in self.steps:
            if not self.folder.is_kept(step.name):
                step.check(self.recipe)

    def shown(self) -> list[tuple[int, Step, int]]:
        """The steps that the screen counts: number from 1, step, how many there are."""
        titled = [step for step in self.steps if step.title]
        return [(number, step, len(titled)) for number, step in enumerate(titled, 1)]

    def run(self) -> dict[str, dict[str, Any]]:
        """Run the steps that are not finished; returns the results of all."""
        self.check()
        headings = {step.name: f"[{number}/{of}] {step.title}" for number, step, of in self.shown()}
        for number, step in enumerate(self.steps):
            if self.folder.writes and self._is_lost(step):
                for later in self.steps[number:]:  # what was made of it is made again, too
                    self.folder.forget(later.name)
            if step.title:
                self.results[step.name] = self._run_shown(step, headings[step.name])
            else:
                self.results[step.name] = self.folder.stage(step.name, partial(step.work, self))
        return self.results

    def _run_shown(self, step: Step, heading: str) -> dict[str, Any]:
        known = self.folder.finished(step.name)
        if known is not None:
            self._say(f"{heading}: done before" + (f" ({known['note']})" if "note" in known else ""))
            return known
        self._say(heading)
        started = time.perf_counter()

        def timed() -> dict[str, Any]:
            result = dict(step.work(self))
            seconds = time.perf_counter() - started
            return {"title": step.title, "seconds": seconds, "peak_memory_gb": peak_memory_gb(), **result}

        done = self.folder.stage(step.name, timed)
        self._say(f"      {done['note']} ({format_seconds(done['seconds'])})")
        return done

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    # ---- what the steps share ----

    @cached_property
    def held_out(self) -> HeldOut:
        """The test, and the passages left for training."""
        return self.hold_out(read_corpus(self.recipe, self.folder))

    def hold_out(self, corpus: Corpus) -> HeldOut:
        """Split the corpus, and keep the split for the steps that follow."""
        finetune = self.recipe.finetune
        known = finetune.known_items if finetune.enabled and finetune.needs_known_items else None
        self.held_out = hold_out(corpus, self.recipe.evaluation, self.recipe.seed, known)
        return self.held_out

    @cached_property
    def known_items(self) -> KnownItems:
        """What the fine-tuned model is chosen by; nothing of it is trained on. Read it when FRet is built."""
        finetune = self.recipe.finetune
        if not finetune.needs_known_items:
            return KnownItems()
        reads_corpus = any(isinstance(step, ReadCorpus) for step in self.steps)
        titles, corpus = (self.held_out.titles, self.held_out.training) if reads_corpus else (None, None)
        task = self.recipe.evaluation.task
        return known_items(finetune, titles, self.folder.path / "fret", self.recipe.seed, corpus, task)

    def load(self, model: JourneyModel) -> Gecko:
        """The model: the one in memory, or read from its folder."""
        from gecko_core import Gecko
        from gecko_train.loop.parallel import own_device
        from gecko_train.run.stage import load_student

        if self._model is None or self._model[0] != model:
            self.forget_model()
            if model.stage:
                path = self.folder.path / model.folder
                loaded = Gecko.from_pretrained(path, device=own_device())
                loaded.base_model = read_json(path / "gecko.json").get("base_model")  # not the name of our folder
            else:
                loaded = load_student(self.recipe.student)
            self._model = (model, loaded)
        return self._model[1]

    def keep(self, loaded: Gecko, model: JourneyModel) -> None:
        """Say that the model in memory has become another one."""
        self._model = (model, loaded)

    def forget_model(self) -> None:
        """Free the memory of the loaded model."""
        self._model = None

    def save(self, model: JourneyModel, record: Mapping[str, Any]) -> None:
        """Write the model with its record to its folder."""
        path = self.folder.path / model.folder
        self.load(model).save_pretrained(path, record=dict(record))

    def card(self, made: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The training record of a model's card: the steps that led to it, on what, with which versions.

        Args:
            made: what the steps did that made the model, by name.
        """
        stages: dict[str, Any] = {}
        for step in self.steps:
            if step.name in made:
                break
            stages[step.name] = {key: value for key, value in self.results[step.name].items() if key != "per_query"}
        return {
            "name": self.recipe.name,
            "recipe": self.recipe.name,
            "start_model": self.recipe.student.model,
            "seed": self.recipe.seed,
            "stages": {**stages, **{name: dict(record) for name, record in made.items()}},
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("gecko-train", "gecko-core", "torch", "transformers")
            },
        }
