"""The judges measured before they judge: on items whose answer is known, and which no label was needed for.

A judge that finds the passage that a title or a sentence was taken from, among its neighbours, is worth asking. Written
queries are measured apart, and nothing is fitted on them. See ``gecko_fret.steps.known_items``.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from gecko_core.errors import DataError
from gecko_fret.config import FretConfig
from gecko_fret.judges import JUDGES, Pair
from gecko_fret.judges.fusion import Fusion
from gecko_fret.steps.base import BuildContext, PartStep, Step, StepResult, Work
from gecko_fret.steps.judging import Panel, judging_fingerprint, llm_passes, llm_reads, make_panel
from gecko_fret.steps.known_items import FEWEST_ITEMS, FITTED, KnownItem, plan_items, sentences, titles
from gecko_fret.steps.measured import MeasuredCandidate, MeasuredItem, fit_judges, summary
from gecko_fret.steps.parts import Layout, layout_of, part_count
from gecko_fret.steps.plan import Plan, StepCost
from gecko_fret.steps.retrieve import RETRIEVE


class Measure:
    """Known items to their candidates' scores.

    Args:
        panel: all judges of the configuration.
    """

    def __init__(self, panel: Panel):
        self._panel = panel

    def __call__(self, items: Sequence[KnownItem]) -> StepResult[MeasuredItem]:
        """Let every judge judge every candidate of every item."""
        pairs = [
            Pair(item.id, item.task, item.query, passage, similarity)
            for item in items
            for passage, similarity in zip(item.passages, item.similarities, strict=True)
        ]
        judged = self._panel(pairs)
        rows = iter(judged.rows)
        measured = [
            MeasuredItem(
                item.id,
                item.kind,
                item.query,
                item.answer_id,
                [
                    MeasuredCandidate(
                        row.candidate_id, {name: JUDGES[name].value(value) for name, value in row.judgements.items()}
                    )
                    for row in itertools.islice(rows, len(item.passages))
                ],
            )
            for item in items
        ]
        return StepResult(measured, counters=judged.counters)


class MeasureStep(PartStep[KnownItem, MeasuredItem]):
    """Known items to scores, part for part. A build with ``mine.fuse: rrf`` has none."""

    name = "measure"
    folder = "measured"
    row = MeasuredItem
    unit = "items"
    counted_as = "measured"
    metered = True
    recorded_as = "judges"
    upstream = (RETRIEVE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The items and the judges. Where nothing is measured, nothing decides."""
        if not measures(build.config):
            return []
        config = build.config
        return [config.seed, config.measure.model_dump(), "found", *judging_fingerprint(build)]

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """See ``Step.depends_on``."""
        return (RETRIEVE,) if measures(config) else ()

    def check_corpus(self, build: BuildContext) -> None:
        """See ``Step.check_corpus``: there must be enough items to fit on."""
        if not measures(build.config):
            return
        corpus, seed, rules = build.corpus, build.config.seed, build.config.corpus.rules
        found = len(titles(corpus, FEWEST_ITEMS, seed)) + len(sentences(corpus, FEWEST_ITEMS, seed, rules))
        if found < FEWEST_ITEMS:
            raise DataError(
                f"{build.corpus.name}: the judges are measured on {FEWEST_ITEMS} or more titles and sentences whose "
                f"passage is known, and these passages give {found} (titles count from three words on, and sentences "
                "from five, of passages that have more to say); add passages, or set mine.fuse: rrf"
            )

    def estimate(self, plan: Plan) -> StepCost | None:
        """See ``Step.estimate``."""
        config = plan.config
        if not measures(config):
            return None
        pairs = (config.measure.items + config.measure.seeds) * min(config.measure.candidates, plan.passages)
        passes, read = llm_reads(plan, pairs)
        return StepCost(f"at most {pairs} pairs x {passes}: {read:.0f} tokens read", pairs * passes, read)

    def layout(self, config: FretConfig) -> Layout[MeasuredItem]:
        """The columns of ``MeasuredItem``."""
        return replace(layout_of(MeasuredItem, config.score.all_judges), decode=MeasuredItem.from_record)

    def part_count(self, build: BuildContext) -> int:
        """Parts that the items fill."""
        return part_count(len(self._plan(build)), build.config.measure.part_size)

    def units(self, build: BuildContext, number: int) -> int:
        """Items of part ``number``."""
        return len(self._part(build, number))

    def answers(self, build: BuildContext, units: int) -> int:
        """See ``PartStep.answers``."""
        candidates = min(build.config.measure.candidates, len(build.corpus))
        return units * candidates * llm_passes(build.config.score)

    def inputs(self, build: BuildContext, number: int) -> Sequence[KnownItem]:
        """The items of part ``number`` with their candidates."""
        return [make() for make in self._part(build, number)]

    def make(self, build: BuildContext) -> Work[KnownItem, MeasuredItem]:
        """Make all judges."""
        return Measure(make_panel(build, build.config.score.all_judges))

    def record(self, build: BuildContext) -> dict[str, Any]:
        """What the judges are worth, see ``gecko_fret.steps.measured.summary``, and the tokens that the LLM read."""
        if not measures(build.config):
            return {}
        parts, names = build.parts(self), build.config.score.all_judges
        spent = Counter[str]()
        for number in parts.numbers():
            spent.update(parts.counters(number))
        costs = {name: round(spent[f"{name}_tokens"] / max(spent["pairs"], 1), 1) for name in names}
        found = summary(list(parts), names, self.fusion(build), build.config.seed)
        return found | {"tokens_per_pair": {name: cost for name, cost in costs.items() if JUDGES[name].uses_llm}}

    def fusion(self, build: BuildContext) -> Fusion:
        """The judges' weights: those that the build has recorded, else see ``fit_judges``.

        A later version may fit others. A build that was begun before it has left out judges of weight 0, and made rows.
        """
        return build.keep("fusion", lambda: _recorded(build) or fit_judges(list(build.parts(self)), build.config))

    def useful(self, build: BuildContext) -> list[str]:
        """The judges that have a weight."""
        return self.fusion(build).useful

    def _part(self, build: BuildContext, number: int) -> list[Callable[[], KnownItem]]:
        size = build.config.measure.part_size
        return self._plan(build)[number * size : (number + 1) * size]

    def _plan(self, build: BuildContext) -> list[Callable[[], KnownItem]]:
        if not measures(build.config):
            return []
        return build.keep("known items", lambda: plan_items(build))


def _recorded(build: BuildContext) -> Fusion | None:
    """The weights in the manifest; None where it has none that these judges could have got."""
    known, names = build.recorded.get(str(MEASURE.recorded_as)) or {}, build.config.score.all_judges
    weights, ridge = known.get("weights"), known.get("ridge")
    if not isinstance(weights, dict) or set(weights) != set(names) or not _is_weight(ridge):
        return None
    if not all(map(_is_weight, weights.values())) or not any(weights.values()):
        return None
    known_items = sum(item.kind in FITTED for item in build.parts(MEASURE))
    return Fusion({name: float(weights[name]) for name in names}, float(ridge), known_items)


def _is_weight(value: Any) -> TypeGuard[float]:
    return isinstance(value, float | int) and 0 <= value < math.inf


MEASURE = MeasureStep()


def measures(config: FretConfig) -> bool:
    """Whether a build measures its judges."""
    return config.mine.fuse == "calibrated"
