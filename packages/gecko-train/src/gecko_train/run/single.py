"""One stage of a recipe by itself: for a student and sets that exist already."""

from __future__ import annotations

import dataclasses
from typing import Literal

from rich.console import Console

from gecko_core.errors import ConfigError
from gecko_core.io import write_json
from gecko_fret.corpus import load_corpus
from gecko_train.config import Recipe
from gecko_train.data.sources.base import SourceContext
from gecko_train.loop.watch import make_console
from gecko_train.run.folder import RunFolder
from gecko_train.run.stage import load_student, train_stage


def run_single(recipe: Recipe, stage: Literal["prefinetune", "finetune"], console: Console | None = None) -> None:
    """Train the recipe's student on one stage's sets; the model goes to ``<output>/model``.

    Raises:
        ConfigError: a FRet set without a path, an output folder of another run.
    """
    console = console or make_console()
    config = recipe.finetune if stage == "finetune" else recipe.prefinetune
    for one in config.sets:
        if one.source == "fret" and one.path is None:
            raise ConfigError(
                f"{stage}.sets: source 'fret' needs a path here; give the folder `gecko-fret build` wrote"
            )
    needs_corpus = any(one.source == "title-body" and one.path is None for one in config.sets)
    with RunFolder.claim(recipe.folder, recipe) as folder:
        known = folder.finished(stage)
        if known is None:
            corpus = load_corpus(recipe.corpus.path) if needs_corpus else None
            model = load_student(recipe.student)
            result = train_stage(
                model, config, SourceContext(corpus, None, recipe.seed), folder.path / stage,
                dims=recipe.student.dims, title=stage, identity=model.weights_hash(), console=console,
            )  # fmt: skip
            record = result.record(config)
            model.eval()
            card = {
                "name": recipe.name,
                "recipe": recipe.name,
                "start_model": recipe.student.model,
                "stages": {stage: record},
            }
            if folder.writes:
                model.save_pretrained(folder.path / "model", record=card, dims=tuple(recipe.student.dims))
                write_json(folder.path / "summary.json", dataclasses.asdict(result.summary))
                folder.stage(stage, lambda: record)
        if folder.writes:
            console.print(f"model: {folder.path / 'model'}", highlight=False, soft_wrap=True)
