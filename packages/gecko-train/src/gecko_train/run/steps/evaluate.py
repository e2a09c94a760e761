"""Steps ``evaluate-*``: known-item search with one model, at every dim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gecko_train.config import Recipe
from gecko_train.run.closing import METRICS
from gecko_train.run.inputs import Inputs, check_student, student_input
from gecko_train.run.steps.base import JourneyModel, Step

if TYPE_CHECKING:
    from gecko_train.run.journey import Journey


@dataclass
class Evaluate(Step):
    """Keeps the metrics of every query, for paired comparisons at the end."""

    model: JourneyModel
    title: str = "evaluate"
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.model.evaluation

    def wanted(self, recipe: Recipe) -> bool:
        """See ``Step``."""
        return self.model.made_by(recipe)

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        return {} if self.model.stage else student_input(recipe.student)

    def check(self, recipe: Recipe) -> None:
        """See ``Step``: the start model."""
        if not self.model.stage:
            check_student(recipe.student)

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        test, dims = journey.held_out.test, journey.recipe.student.dims
        return [f"{len(test.queries)} queries, {len(test.docs)} documents, at {', '.join(map(str, dims))} dims"]

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        from gecko_eval.in_training import evaluate_retrieval

        model = journey.load(self.model)
        scores = evaluate_retrieval(model, journey.held_out.test, list(journey.recipe.student.dims))
        per_query = {
            str(dim): {metric: [round(float(value), 6) for value in dim_scores.per_query[metric]] for metric in METRICS}
            for dim, dim_scores in scores.items()
        }
        shown = ", ".join(f"{dim} dims {np.mean(metrics['ndcg_at_10']):.3f}" for dim, metrics in per_query.items())
        return {"per_query": per_query, "weights": model.weights_hash(), "note": f"nDCG@10: {shown}"}
