"""Fusing the judges' rankings, and choosing positive and negatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa

from gecko_core.randomness import generator
from gecko_core.text_identity import words_key
from gecko_fret.config import FretConfig, MineConfig
from gecko_fret.corpus.contamination import Contamination, content_fingerprint
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES
from gecko_fret.steps.base import BuildContext, PartStep, Reject, StepResult, Work
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.parts import Layout, arrow_type, layout_of
from gecko_fret.steps.plan import Plan
from gecko_fret.steps.retrieve import RETRIEVE
from gecko_fret.steps.score import SCORE


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour of a query with its scores and ranks.

    ``ql`` is the mean log-probability of the query, ``rc`` the expected label 0 to 4; ranks count from 1. ``fused`` is
    the sum of 1/(k + rank) over the judges. ``scores`` holds every judge's value; folders of format 1, which have no
    such column, are read with ql and rc in it.
    """

    id: str
    similarity: float
    ql: float
    rc: float
    rank_ql: int
    rank_rc: int
    fused: Annotated[float, pa.float64()]
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MinedRow:
    """A training example by ids; the columns of the parts. ``candidates`` are ordered by fused score, best first."""

    id: str
    task: str
    query: str
    positive_id: str
    negative_ids: list[str]
    seed_id: str
    seed_rank: int | None
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate before its ranks: similarity to the query, and a value by every judge, higher is better."""

    id: str
    similarity: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query whose candidates were scored; ``seed_rank`` is from retrieval."""

    query: Query
    seed_rank: int | None
    candidates: list[Judged]


def fuse(candidates: Sequence[Judged], k: float = 0.0) -> list[Candidate]:
    """Candidates by their fused score, best first: reciprocal rank fusion (Gecko, section 3.2; k = 0 there).

    Within one ranking, equal scores are ordered by similarity, then by id. Equal fused scores, common with k = 0
    (1 and 3 fuse to the same as 3 and 1), are ordered by rank_QL, then by similarity, then by id.
    """
    ranks: dict[str, dict[str, int]] = {}
    for judge in candidates[0].scores if candidates else ():
        ordered = sorted(candidates, key=lambda c: (-c.scores[judge], -c.similarity, c.id))
        ranks[judge] = {candidate.id: place for place, candidate in enumerate(ordered, start=1)}
    fused = [
        Candidate(
            id=c.id,
            similarity=c.similarity,
            ql=c.scores["ql"],
            rc=c.scores["rc"],
            rank_ql=ranks["ql"][c.id],
            rank_rc=ranks["rc"][c.id],
            fused=sum(1 / (k + places[c.id]) for places in ranks.values()),
            scores=dict(c.scores),
        )
        for c in candidates
    ]
    return sorted(fused, key=lambda c: (-c.fused, c.rank_ql, -c.similarity, c.id))


class Mine:
    """Scored queries to training rows.

    A negative is never the positive, the seed, or a passage whose text equals one of theirs or another negative's; its
    similarity to the query is below ``max_similarity`` times the positive's (NV-Retriever's TopK-PercPos).

    Args:
        corpus: the passages.
        config: section ``mine``.
        seed: the build's seed, for random negatives.
        contaminated: names the evaluation set that a text is from, None for a clean text.
    """

    def __init__(
        self, corpus: Corpus, config: MineConfig, seed: int, contaminated: Callable[[str], str | None] | None = None
    ):
        self._corpus, self._config, self._seed = corpus, config, seed
        self._contaminated = contaminated or (lambda text: None)

    def __call__(self, rows: Sequence[JudgedQuery]) -> StepResult[MinedRow]:
        """Mine every row, or reject it."""
        outcomes = [self._mine(row) for row in rows]
        return StepResult(
            [outcome for outcome in outcomes if isinstance(outcome, MinedRow)],
            [outcome for outcome in outcomes if isinstance(outcome, Reject)],
        )

    def _mine(self, row: JudgedQuery) -> MinedRow | Reject:
        query = row.query

        def reject(reason: str, detail: str) -> Reject:
            return MINE.reject(reason, query.id, query.query, detail)

        ranked = fuse(row.candidates, self._config.rrf_k)
        positive: Candidate | None = ranked[0]
        if self._config.positive == "seed":
            positive = next((candidate for candidate in ranked if candidate.id == query.seed_id), None)
        if positive is None:
            return reject("seed_absent", "positive: seed, but the seed is not among the candidates")
        least = self._config.min_relevance
        if least is not None and positive.rc < least:
            return reject("low_relevance", f"{positive.rc:.2f} of the positive is below {least:g}")
        source = self._contaminated(query.query) or self._contaminated(self._corpus.get(positive.id).full_text)
        if source:
            return reject("contaminated", source)
        negatives = self._negatives(query, ranked, positive)
        if not negatives and self._config.require_negative and self._config.negative != "none":
            return reject("no_negative", "every other candidate is too similar, or the same text")
        return MinedRow(
            id=query.id,
            task=query.task,
            query=query.query,
            positive_id=positive.id,
            negative_ids=negatives,
            seed_id=query.seed_id,
            seed_rank=row.seed_rank,
            candidates=ranked,
        )

    def _negatives(self, query: Query, ranked: list[Candidate], positive: Candidate) -> list[str]:
        config = self._config
        if config.negative == "none":
            return []
        ceiling = None if config.max_similarity is None else config.max_similarity * positive.similarity
        allowed = [c.id for c in reversed(ranked) if ceiling is None or c.similarity < ceiling]
        if config.negative == "random":
            order = generator("negative", self._seed, query.id).permutation(len(allowed))
            allowed = [allowed[place] for place in order]
        taken = {self._text_key(positive.id), self._text_key(query.seed_id)}
        negatives: list[str] = []
        for identifier in allowed:
            if len(negatives) == config.negatives:
                break
            key = self._text_key(identifier)
            if identifier not in (positive.id, query.seed_id) and key not in taken:
                taken.add(key)
                negatives.append(identifier)
        return negatives

    def _text_key(self, identifier: str) -> str:
        return words_key(self._corpus.get(identifier).text)


class MineStep(PartStep[JudgedQuery, MinedRow]):
    """Scores to training rows, part for part."""

    name = "mine"
    folder = "fret"
    row = MinedRow
    counted_as = "rows"
    must_have_rows = True
    upstream = (SCORE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The seed, the settings of mining, and the content of the evaluation sets."""
        config = build.config
        return [
            config.seed,
            config.mine.model_dump(exclude={"decontaminate"}),
            [content_fingerprint(source) for source in config.mine.decontaminate],
        ]

    def format(self, config: FretConfig) -> int:
        """Format 2 where judges beyond ql and rc need the column ``scores``."""
        return 2 if config.score.further_judges else 1

    def estimate(self, plan: Plan) -> None:
        """See ``Step.estimate``."""
        kept = plan.like.counts["rows"] / RETRIEVE.passed(plan.like) if plan.like else 1.0
        plan.rows["rows"] = plan.rows["passed"] * kept

    def layout(self, config: FretConfig) -> Layout[MinedRow]:
        """The columns of ``MinedRow``; in format 1 candidates have no ``scores``."""
        layout = layout_of(MinedRow)
        schema = layout.schema
        if self.format(config) == 1:
            fields = [field for field in arrow_type(Candidate) if field.name != "scores"]
            place = schema.get_field_index("candidates")
            schema = schema.set(place, pa.field("candidates", pa.list_(pa.struct(fields))))
        return dataclasses.replace(layout, schema=schema, decode=_read_row)

    def units(self, build: BuildContext, number: int) -> int:
        """Queries of part ``number`` that were scored."""
        return SCORE.units(build, number)

    def inputs(self, build: BuildContext, number: int) -> Sequence[JudgedQuery]:
        """Scored queries of part ``number`` with all that is known of them."""
        retrieved = {row.query_id: row for row in build.parts(RETRIEVE).rows(number)}
        judged: dict[str, list[Judged]] = {}
        similarities = {
            row.query_id: dict(zip(row.candidate_ids, row.similarities, strict=True)) for row in retrieved.values()
        }
        for pair in build.parts(SCORE).rows(number):
            values = {name: JUDGES[name].value(judgement) for name, judgement in pair.judgements.items()}
            candidate = Judged(pair.candidate_id, similarities[pair.query_id][pair.candidate_id], values)
            judged.setdefault(pair.query_id, []).append(candidate)
        return [
            JudgedQuery(query, retrieved[query.id].seed_rank, judged[query.id])
            for query in build.parts(FILTER).rows(number)
            if query.id in judged
        ]

    def make(self, build: BuildContext) -> Work[JudgedQuery, MinedRow]:
        """Read the evaluation sets that the rows must not touch."""
        config = build.config
        contaminated = Contamination.load(config.mine.decontaminate).find if config.mine.decontaminate else None
        return Mine(build.corpus, config.mine, config.seed, contaminated)


MINE = MineStep()


def _read_row(record: dict[str, Any]) -> MinedRow:
    return MinedRow(**record | {"candidates": [_read_candidate(candidate) for candidate in record["candidates"]]})


def _read_candidate(record: dict[str, Any]) -> Candidate:
    scores = record.get("scores") or {"ql": record["ql"], "rc": record["rc"]}
    return Candidate(**record | {"scores": dict(scores)})
