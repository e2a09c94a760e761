"""The steps of a build in their order: one file each, and one line in `STEPS`.

Names on disk and in the configuration are those of version 0.1, so that its folders stay valid:

| step | configuration | folder | rows counted as | stage in rejects/ |
|---|---|---|---|---|
| corpus | corpus | corpus | passages | |
| enrich | enrich, llm | enriched | enriched | |
| write | generate, llm, generators | attempts | attempts | |
| filter | generate (`FILTER_KEYS`) | generated | queries | generate |
| embed | embedder, retrieve.first_pass | embeddings | | |
| retrieve | retrieve | retrieved | retrieved | retrieve |
| measure | measure, score, llm | measured | measured | |
| score | score, llm | scored | scored_pairs | |
| mine | mine | fret | rows | mine |
"""

from __future__ import annotations

from typing import Any

from gecko_fret.steps.base import PARTIAL, BuildContext, PartStep, Reject, Step, StepResult, WholeStep, Work
from gecko_fret.steps.corpus import CORPUS
from gecko_fret.steps.embed import EMBED
from gecko_fret.steps.enrich import ENRICH, EnrichedText
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.judging import ScoredPair
from gecko_fret.steps.measure import MEASURE
from gecko_fret.steps.measured import MeasuredItem
from gecko_fret.steps.mine import MINE, Candidate, MinedRow
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved
from gecko_fret.steps.score import SCORE
from gecko_fret.steps.write import WRITE, Attempt

#: To add a step, write its file and put it here, after the steps that it reads.
STEPS: list[Step[Any]] = [
    CORPUS,
    ENRICH,
    WRITE,
    FILTER,
    EMBED,
    RETRIEVE,
    MEASURE,
    SCORE,
    MINE,
]

__all__ = [
    "CORPUS",
    "EMBED",
    "ENRICH",
    "FILTER",
    "MEASURE",
    "MINE",
    "PARTIAL",
    "RETRIEVE",
    "SCORE",
    "STEPS",
    "WRITE",
    "Attempt",
    "BuildContext",
    "Candidate",
    "EnrichedText",
    "MeasuredItem",
    "MinedRow",
    "PartStep",
    "Query",
    "Reject",
    "Retrieved",
    "ScoredPair",
    "Step",
    "StepResult",
    "WholeStep",
    "Work",
]
