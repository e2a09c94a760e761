"""Last step: compare the models, put the scores on the card of the last one, write ``results.json``."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_core.io import whole_folder, write_json
from gecko_train.config import Recipe
from gecko_train.run.closing import METRICS, compare_models, verdict
from gecko_train.run.steps.base import MODELS, JourneyModel, Step
from gecko_train.run.steps.corpus import ReadCorpus
from gecko_train.run.steps.interpolate import Interpolate

if TYPE_CHECKING:
    from gecko_train.run.journey import Journey

# What a user looks for in the output folder.
_FILES = {
    "model": "model",
    "training data": "fret",
    "curves": "finetune/curves.png",
    "scores": "results.json",
    "recipe": "recipe.yaml",
}


class Close(Step):
    """Sums up the run; silent, for its result is the closing screen."""

    name = "results"
    title = ""

    def outputs(self, recipe: Recipe) -> list[str]:
        """See ``Step``."""
        trained = any(model.stage and model.made_by(recipe) for model in MODELS)
        return ["results.json", *([MODELS[-1].folder] if trained else [])]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        folder = journey.folder.path
        corpus = journey.results[ReadCorpus.name]
        scores = {
            model: journey.results[model.evaluation]["per_query"]
            for model in MODELS
            if model.evaluation in journey.results
        }
        lines = compare_models({model.name: per_query for model, per_query in scores.items()})
        last, final = next(reversed(scores)), MODELS[-1]
        if last.stage:
            _save_with_scores(journey, last, scores[last], corpus)
            if last is not final:
                with whole_folder(folder / final.folder) as copy:
                    shutil.copytree(folder / last.folder, copy, dirs_exist_ok=True)
        stages = [journey.results[step.name] for step in journey.steps if step.title]
        results = {
            "recipe": journey.recipe.name,
            "queries": corpus["queries"],
            "documents": corpus["documents"],
            "scores": lines,
            "verdict": verdict(lines, corpus["queries"]),
            **({"interpolation": journey.results[Interpolate.name]} if Interpolate.name in journey.results else {}),
            "stages": [{key: stage[key] for key in ("title", "seconds", "peak_memory_gb", "note")} for stage in stages],
            "files": _files(folder),
            "machine": {
                "processor": platform.machine(),
                "system": platform.system(),
                "python": platform.python_version(),
            },
            "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }
        write_json(folder / "results.json", results)
        return results


def _save_with_scores(
    journey: Journey, model: JourneyModel, per_query: Mapping[str, Any], corpus: Mapping[str, Any]
) -> None:
    """Save the last model again, now that its scores are known: they are part of its card."""
    training = {key: value for key, value in journey.results[model.stage].items() if key not in ("title", "note")}
    chosen = {step.name: journey.results[step.name] for step in journey.steps if isinstance(step, Interpolate)}
    card = journey.card({model.stage: training, **(chosen if model is MODELS[-1] else {})})
    card["scores"] = [
        {"task": "Retrieval", "dataset": f"known-item search in {corpus['name']}", "dim": int(dim),
         "metric": metric, "value": float(np.mean(values[metric]))}
        for dim, values in per_query.items()
        for metric in METRICS
    ]  # fmt: skip
    journey.load(model).eval()
    journey.save(model, card)


def _files(folder: Path) -> dict[str, str]:
    return {what: where for what, where in _FILES.items() if (folder / where).exists() or where == "results.json"}
