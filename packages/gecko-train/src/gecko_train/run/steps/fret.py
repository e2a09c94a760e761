"""Step ``fret``: the LLM writes and labels the training data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gecko_core.errors import DataError, GeckoError
from gecko_train.config import Recipe
from gecko_train.data.sources.registry import run_inputs
from gecko_train.run.inputs import Inputs
from gecko_train.run.steps.base import FINETUNED, Step

if TYPE_CHECKING:
    from gecko_train.run.journey import Journey


class BuildFret(Step):
    """Builds the FRet data that fine-tuning reads, in the folder ``fret``."""

    name = "fret"
    title = "FRet: the LLM writes queries and judges neighbours"

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``; sets with a path of their own need no build."""
        return FINETUNED.made_by(recipe) and "fret" in run_inputs(recipe.finetune.sets)

    def check(self, recipe: Recipe) -> None:
        """See ``Step``."""
        from gecko_fret import check_fret

        try:
            check_fret(recipe.fret)
        except GeckoError as error:
            raise type(error)(f"fret.{error}") from None

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        from gecko_fret.build import input_files

        return {f"fret.{key}": path for key, path in input_files(recipe.fret).items()}

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        from gecko_fret.build import describe_cost

        recipe = journey.recipe
        models = f"LLM {recipe.fret.llm.model}, embedder {recipe.fret.embedder.model}"
        return [models, *describe_cost(recipe.fret, journey.held_out.training).splitlines()]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        from gecko_fret import build_fret, load_fret

        journey.forget_model()  # the LLM needs the memory
        started = time.perf_counter()
        folder = journey.folder.path / "fret"
        summary = build_fret(journey.recipe.fret, folder, corpus=journey.held_out.training, progress=True)
        if not summary.complete:
            raise DataError(f"{folder}: FRet was stopped before its end; the same command goes on with it")
        rows = load_fret(folder)
        answered = sum(row.positive is not None for row in rows)
        seeded = [row for row in rows if row.positive is not None and row.seed_id is not None]
        moved = sum(row.positive is not None and row.positive.id != row.seed_id for row in seeded)
        share = moved / len(seeded) if seeded else 0.0
        return {
            "rows": len(rows),
            "rows_with_a_positive": answered,
            "positive_is_not_the_seed": share,
            "counts": rows.manifest.get("counts", {}),
            "fret_seconds": time.perf_counter() - started,
            "note": f"{len(rows)} lists of judged candidates, {answered} of them with a positive, which is another "
            f"passage than the seed for {share:.0%}",
        }
