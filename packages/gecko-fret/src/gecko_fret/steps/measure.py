"""The judges measured before they judge: on items whose answer is known, and which no label was needed for.

Titles name their passage, and no LLM wrote them: a judge that finds the passage that a title was taken from, among its
neighbours, is worth asking. Where passages have no titles their first sentences serve. Written queries know their seed
too, but the LLM that wrote them judges them too kindly: they are measured apart, and nothing is fitted on them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa

from gecko_core.errors import DataError
from gecko_core.randomness import generator
from gecko_fret.config import FretConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges import JUDGES, Pair
from gecko_fret.judges.fusion import Fusion, ScoredList, fit
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.base import BuildContext, PartStep, Step, StepResult, Work
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.first_pass import build_embedder
from gecko_fret.steps.judging import Panel, judging_fingerprint, make_panel
from gecko_fret.steps.parts import Layout, layout_of, part_count
from gecko_fret.steps.plan import TEMPLATE_TOKENS, Plan, StepCost
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved

#: What the known items are: lines of the corpus itself, or queries that an LLM wrote.
TITLES, SEEDS = "titles", "seeds"

_FEWEST_ITEMS = 8


@dataclass(frozen=True, slots=True)
class MeasuredCandidate:
    """A candidate of a known item, with every judge's value."""

    id: str
    scores: dict[str, Annotated[float, pa.float64()]]


@dataclass(frozen=True, slots=True)
class MeasuredItem:
    """A query whose answer is known, judged; the columns of the parts."""

    id: str
    kind: str
    query: str
    answer_id: str
    candidates: list[MeasuredCandidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A query whose answer is known. ``passages`` are what judges read of its candidates."""

    id: str
    kind: str
    task: str
    query: str
    answer_id: str
    passages: list[Passage]
    similarities: list[float]


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
        return [config.seed, config.measure.model_dump(), *judging_fingerprint(build)]

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """See ``Step.depends_on``."""
        return (RETRIEVE,) if measures(config) else ()

    def estimate(self, plan: Plan) -> StepCost | None:
        """See ``Step.estimate``."""
        config = plan.config
        if not measures(config):
            return None
        pairs = (config.measure.items + config.measure.seeds) * min(config.measure.candidates, plan.passages)
        passes = sum(JUDGES[name].passes(config.score) for name in config.score.all_judges)
        tokens = plan.text_tokens(config.score.passage_tokens) + config.generate.max_new_tokens + TEMPLATE_TOKENS
        read = float(round(pairs * passes * tokens))
        return StepCost(f"at most {pairs} pairs x {passes}: {read:.0f} tokens read", pairs * passes, read)

    def layout(self, config: FretConfig) -> Layout[MeasuredItem]:
        """The columns of ``MeasuredItem``."""
        return replace(layout_of(MeasuredItem), decode=_read_item)

    def part_count(self, build: BuildContext) -> int:
        """Parts that the items fill."""
        return part_count(len(self._plan(build)), build.config.measure.part_size)

    def units(self, build: BuildContext, number: int) -> int:
        """Items of part ``number``."""
        return len(self._part(build, number))

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
        from gecko_fret.steps.measured import summary

        parts, names = build.parts(self), build.config.score.all_judges
        spent = Counter[str]()
        for number in parts.numbers():
            spent.update(parts.counters(number))
        costs = {name: round(spent[f"{name}_tokens"] / max(spent["pairs"], 1), 1) for name in names}
        found = summary(list(parts), names, self.fusion(build), build.config.seed)
        return found | {"tokens_per_pair": {name: cost for name, cost in costs.items() if JUDGES[name].uses_llm}}

    def fusion(self, build: BuildContext) -> Fusion:
        """The judges' weights, fitted on the titles.

        Raises:
            DataError: there are too few items to fit on.
        """
        return build.keep("fusion", lambda: fit_judges(list(build.parts(self)), build.config))

    def useful(self, build: BuildContext) -> list[str]:
        """The judges that have a weight; the most exact one where none is better than chance."""
        return self.fusion(build).useful

    def _part(self, build: BuildContext, number: int) -> list[Callable[[], KnownItem]]:
        size = build.config.measure.part_size
        return self._plan(build)[number * size : (number + 1) * size]

    def _plan(self, build: BuildContext) -> list[Callable[[], KnownItem]]:
        if not measures(build.config):
            return []
        return build.keep("known items", lambda: _plan_items(build))


MEASURE = MeasureStep()


def measures(config: FretConfig) -> bool:
    """Whether a build measures its judges."""
    return config.mine.fuse == "calibrated"


def fit_judges(items: Sequence[MeasuredItem], config: FretConfig) -> Fusion:
    """Fit the judges' weights on the known items that no LLM wrote.

    Raises:
        DataError: there are too few of them, or no judge is better than chance.
    """
    names = config.score.all_judges
    lists = scored_lists([item for item in items if item.kind == TITLES], names)
    if len(lists) < _FEWEST_ITEMS:
        raise DataError(
            f"mine.fuse: calibrated needs {_FEWEST_ITEMS} passages with a title or two sentences to measure the judges "
            f"on, the corpus gave {len(lists)}; use mine.fuse: rrf, or more passages"
        )
    free = [name for name in names if not JUDGES[name].uses_llm]
    fusion = fit(lists, names, free=free, ridge=config.measure.ridge, seed=config.seed)
    if not fusion.useful:
        raise DataError(
            f"none of the judges {', '.join(names)} finds the passages of {len(lists)} titles better than chance; "
            "choose other judges (score.judges), a larger llm.model, or mine.fuse: rrf"
        )
    return fusion


def scored_lists(items: Sequence[MeasuredItem], names: Sequence[str]) -> list[ScoredList]:
    """Items as arrays, one column per judge."""
    return [
        ScoredList(
            np.array([[candidate.scores[name] for name in names] for candidate in item.candidates]),
            [candidate.id for candidate in item.candidates].index(item.answer_id),
        )
        for item in items
    ]


def _read_item(record: dict[str, Any]) -> MeasuredItem:
    candidates = [MeasuredCandidate(c["id"], dict(c["scores"])) for c in record["candidates"]]
    return MeasuredItem(**record | {"candidates": candidates})


def _plan_items(build: BuildContext) -> list[Callable[[], KnownItem]]:
    """All items, each made when its part is."""
    config = build.config
    pairs = build.corpus.pairs()
    order = generator("measure", config.seed).permutation(len(pairs))[: config.measure.items]
    task = load_prompts(config.generate.prompt).kinds[0]
    plans: list[Callable[[], KnownItem]] = []
    for place in order.tolist():
        title, passage = pairs[place]
        plans.append(lambda title=title, passage=passage: _title_item(build, task, title, passage))  # type: ignore[misc]
    for query, retrieved in _written(build):
        plans.append(lambda query=query, retrieved=retrieved: _seed_item(build, query, retrieved))  # type: ignore[misc]
    return plans


def _written(build: BuildContext) -> list[tuple[Query, Retrieved]]:
    """The first written queries."""
    found: list[tuple[Query, Retrieved]] = []
    for number in build.parts(FILTER).numbers():
        if len(found) >= build.config.measure.seeds:
            break
        retrieved = {row.query_id: row for row in build.parts(RETRIEVE).rows(number)}
        found += [
            (query, retrieved[query.id])
            for query in build.parts(FILTER).rows(number)
            if query.seed_id is not None and len(retrieved[query.id].candidate_ids) > 1
        ]
    return found[: build.config.measure.seeds]


def _title_item(build: BuildContext, task: str, title: str, passage: Passage) -> KnownItem:
    """A title and its neighbours; all are shown without their titles, the answer as ``Corpus.pairs`` cut it."""
    ids = _neighbours(build, task, title, passage.id)
    shown = [passage if identifier == passage.id else _untitled(build.corpus, identifier) for identifier in ids]
    return KnownItem(f"title/{passage.id}", TITLES, task, title, passage.id, shown, _cosines(build, task, title, shown))


def _seed_item(build: BuildContext, query: Query, retrieved: Retrieved) -> KnownItem:
    """A written query and its neighbours."""
    ids = _with_answer(retrieved.candidate_ids[: build.config.measure.candidates], query.seed_id)
    shown = [build.corpus.get(identifier) for identifier in ids]
    similarities = _cosines(build, query.task, query.query, shown)
    return KnownItem(f"seed/{query.id}", SEEDS, query.kind, query.query, query.seed_id, shown, similarities)


def _untitled(corpus: Corpus, identifier: str) -> Passage:
    return replace(corpus.get(identifier), title=None)


def _neighbours(build: BuildContext, task: str, query: str, answer: str) -> list[str]:
    vectors = build_embedder(build).encode_queries([query], task=task)
    count = min(build.config.measure.candidates, len(build.corpus))
    rows = RETRIEVE.index(build).search(vectors, count)[0][0]
    return _with_answer([build.corpus[int(row)].id for row in rows], answer)


def _with_answer(ids: list[str], answer: str) -> list[str]:
    """The candidates, the last one replaced by the answer where it is not among them."""
    return ids if answer in ids else [*ids[:-1], answer]


def _cosines(build: BuildContext, task: str, query: str, passages: Sequence[Passage]) -> list[float]:
    """Similarities to passages as they are shown, which need not be those of the index."""
    embedder = build_embedder(build)
    vectors = embedder.encode_documents([p.text for p in passages], [p.title for p in passages])
    return (vectors @ embedder.encode_queries([query], task=task)[0]).tolist()
