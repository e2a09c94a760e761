"""What a run would do, told before it starts (`--dry-run`): nothing is written, no model is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from rich.console import Console

from gecko_train.config import Recipe
from gecko_train.loop.watch import make_console
from gecko_train.run.folder import RunFolder
from gecko_train.run.journey import STEPS, Journey, for_one_stage, steps_of_stage
from gecko_train.run.steps.base import Step
from gecko_train.run.steps.mntp import MntpAlone


def plan_recipe(recipe: Recipe, console: Console | None = None) -> None:
    """Show the steps of a recipe: which are finished, what the others read, how much they train and ask of the LLM.

    Everything is checked that a run checks before its first step.

    Args:
        recipe: the recipe.
        console: where to print; standard output by default.

    Raises:
        GeckoError: what would stop the run, in one line.
    """
    _plan(recipe, STEPS, console)


def plan_stage(recipe: Recipe, stage: Literal["prefinetune", "finetune"], console: Console | None = None) -> None:
    """The same for one stage of training alone. See ``plan_recipe``."""
    _plan(for_one_stage(recipe), steps_of_stage(recipe, stage), console)


def plan_mntp(recipe: Recipe, console: Console | None = None) -> None:
    """The same for masked next-token prediction alone. See ``plan_recipe``."""
    _plan(recipe, [MntpAlone()], console)


def _plan(recipe: Recipe, steps: Sequence[Step], console: Console | None) -> None:
    console = console or make_console()
    folder = RunFolder.look(recipe.folder, recipe)
    journey = Journey(folder.recipe, folder, console, steps)
    journey.check()
    finished = [folder.finished(step.name) is not None for step in journey.steps]
    # What follows a step that has to be done again is done again, too.
    done: list[bool] = [*itertools.accumulate(finished, lambda before, now: before and now)]
    state = "finished" if all(done) else "begun" if any(done) else "not begun"
    lines = [f"{recipe.name} -> {folder.path} ({state}); nothing is run or written now"]
    for number, step, of in journey.shown():
        is_done = done[journey.steps.index(step)]
        lines.append(f"[{number}/{of}] {step.title}{': done before' if is_done else ''}")
        lines += [] if is_done else [f"      {line}" for line in step.plan(journey)]
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
