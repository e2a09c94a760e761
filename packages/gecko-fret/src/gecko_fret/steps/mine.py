"""Fusing the judges' rankings, and choosing positive and negatives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import pyarrow as pa

from gecko_core.randomness import generator
from gecko_fret.config import PAPER_JUDGES, FretConfig, MineConfig
from gecko_fret.corpus.contamination import Contamination, content_fingerprint
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES
from gecko_fret.judges.fusion import Fusion
from gecko_fret.steps.base import BuildContext, PartStep, Reject, Step, StepResult, Work
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.measure import MEASURE, measures
from gecko_fret.steps.parts import Layout, arrow_type, dictionary_of, layout_of
from gecko_fret.steps.plan import Plan
from gecko_fret.steps.retrieve import RETRIEVE
from gecko_fret.steps.score import SCORE
from gecko_fret.text_rules import LATEST, TextRules

#: Keys of ``mine`` that reciprocal rank fusion does not read; version 0.1 did not have them.
_CALIBRATED_KEYS = {"fuse", "min_probability", "max_probability", "seed_rank", "unanswered"}

#: A positive is this many times as probable as by chance, but no more than that probability is asked of it.
_ABOVE_CHANCE, _SURE_OF_FEW = 1.5, 0.75


@dataclass(frozen=True, slots=True)
class Candidate:
    """A neighbour of a query with its scores and ranks.

    ``scores`` holds the value of every judge that was asked. ``ql`` is the mean log-probability of the query, ``rc``
    the expected label 0 to 4, ranks count from 1; None where that judge was not asked. ``probability`` is that of the
    calibrated fusion, None with reciprocal rank fusion; over the candidates of a row it sums to 1 (to less where some
    were left out, as texts of an evaluation set), so that its logarithm is a teacher's logit. ``fused`` orders the
    candidates: the probability, or the sum of 1/(k + rank) over the judges.

    Folders of format 1 have neither ``scores`` nor ``probability``; they are read with ql and rc in ``scores``.
    """

    id: str
    similarity: float
    ql: float | None
    rc: float | None
    rank_ql: int | None
    rank_rc: int | None
    fused: Annotated[float, pa.float64()]
    scores: dict[str, float] = field(default_factory=dict)
    probability: Annotated[float | None, pa.float64()] = None


@dataclass(frozen=True, slots=True)
class MinedRow:
    """A training example by ids; the columns of the parts. ``candidates`` are ordered by fused score, best first.

    ``positive_id`` is None where the judges found no answer: the candidates and their probabilities still teach.
    ``source`` is the query's; parts have it where there are others than the LLM.
    """

    id: str
    task: str
    query: str
    positive_id: str | None
    negative_ids: list[str]
    seed_id: str | None
    seed_rank: int | None
    candidates: list[Candidate]
    source: str = "llm"


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
    ranks = _ranks(candidates)
    fused = [_candidate(c, ranks, sum(1 / (k + places[c.id]) for places in ranks.values())) for c in candidates]
    return sorted(fused, key=lambda c: (-c.fused, c.rank_ql or 0, -c.similarity, c.id))


def fuse_calibrated(candidates: Sequence[Judged], fusion: Fusion) -> list[Candidate]:
    """Candidates by their probability, best first; equal ones are ordered by similarity, then by id."""
    ranks = _ranks(candidates)
    scores = {name: [candidate.scores[name] for candidate in candidates] for name in fusion.useful}
    probabilities = fusion.probabilities(scores).tolist()
    fused = [_candidate(c, ranks, p, probability=p) for c, p in zip(candidates, probabilities, strict=True)]
    return sorted(fused, key=lambda c: (-c.fused, -c.similarity, c.id))


def _ranks(candidates: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """Rank of every candidate by every judge."""
    ranks: dict[str, dict[str, int]] = {}
    for judge in candidates[0].scores if candidates else ():
        ordered = sorted(candidates, key=lambda c: (-c.scores[judge], -c.similarity, c.id))
        ranks[judge] = {candidate.id: place for place, candidate in enumerate(ordered, start=1)}
    return ranks


def _candidate(
    judged: Judged, ranks: Mapping[str, Mapping[str, int]], fused: float, probability: float | None = None
) -> Candidate:
    return Candidate(
        id=judged.id,
        similarity=judged.similarity,
        ql=judged.scores.get("ql"),
        rc=judged.scores.get("rc"),
        rank_ql=ranks.get("ql", {}).get(judged.id),
        rank_rc=ranks.get("rc", {}).get(judged.id),
        fused=fused,
        scores=dict(judged.scores),
        probability=probability,
    )


class Mine:
    """Scored queries to training rows.

    A negative is never the positive, the seed, or a passage that has the words of theirs or of another negative; its
    similarity to the query is below ``max_similarity`` times the positive's (NV-Retriever's TopK-PercPos).

    Args:
        corpus: the passages.
        config: section ``mine``.
        seed: the build's seed, for random negatives.
        contaminated: texts of evaluation sets. A query that is one of them, was written for one or has one as its
            positive is rejected; other candidates that are leave its list.
        fusion: the judges' weights; None: reciprocal rank fusion.
        rules: what words are.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: MineConfig,
        seed: int,
        contaminated: Contamination | None = None,
        fusion: Fusion | None = None,
        rules: TextRules = LATEST,
    ):
        self._rules = rules
        self._corpus, self._config, self._seed, self._fusion = corpus, config, seed, fusion
        self._contaminated = contaminated
        self._of_passages: dict[str, str | None] = {}

    def __call__(self, rows: Sequence[JudgedQuery]) -> StepResult[MinedRow]:
        """Mine every row, or reject it."""
        outcomes = [self._mine(row) for row in rows]
        return StepResult(
            [outcome for outcome in outcomes if isinstance(outcome, MinedRow)],
            [outcome for outcome in outcomes if isinstance(outcome, Reject)],
        )

    def _mine(self, row: JudgedQuery) -> MinedRow | Reject:
        config, query = self._config, row.query
        ranked = (
            fuse(row.candidates, config.rrf_k)
            if self._fusion is None
            else fuse_calibrated(row.candidates, self._fusion)
        )
        positive, fault = self._positive(row, ranked)
        if positive is None and (self._fusion is None or config.unanswered == "reject"):
            return MINE.reject(fault[0], query.id, query.query, fault[1])
        if source := self._source_of(query, positive):
            return MINE.reject("contaminated", query.id, query.query, source)
        ranked = [candidate for candidate in ranked if not self._contamination(candidate.id)]
        if not ranked:
            detail = "every candidate is a passage of an evaluation set"
            return MINE.reject("contaminated", query.id, query.query, detail)
        negatives = self._negatives(query, ranked, positive) if positive else []
        if positive and not negatives and config.require_negative and config.negative != "none":
            detail = "every other candidate is too similar, too probable, or the same text"
            return MINE.reject("no_negative", query.id, query.query, detail)
        return MinedRow(
            id=query.id,
            task=query.task,
            query=query.query,
            positive_id=positive.id if positive else None,
            negative_ids=negatives,
            seed_id=query.seed_id,
            seed_rank=row.seed_rank,
            candidates=ranked,
            source=query.source,
        )

    def _source_of(self, query: Query, positive: Candidate | None) -> str | None:
        """Why a query is not to be trained on, or None."""
        if self._contaminated is None:
            return None
        whose = (None if positive is None else positive.id, query.seed_id)
        passages = dict.fromkeys(name for name in whose if name is not None)
        reasons = (self._contaminated.find(query.query), *map(self._contamination, passages))
        return next(filter(None, reasons), None)

    def _contamination(self, name: str) -> str | None:
        """Why a passage of the corpus must not be in a row, or None."""
        if self._contaminated is None:
            return None
        if name not in self._of_passages:
            self._of_passages[name] = self._contaminated.find_passage(self._corpus.get(name))
        return self._of_passages[name]

    def _positive(self, row: JudgedQuery, ranked: list[Candidate]) -> tuple[Candidate | None, tuple[str, str]]:
        """The positive; or None, and the reason with its detail."""
        config, seed_id = self._config, row.query.seed_id
        place = next((place for place, candidate in enumerate(ranked) if candidate.id == seed_id), None)
        positive = ranked[0]
        if config.positive == "seed":
            if place is None:
                return None, ("seed_absent", "positive: seed, but the seed is not among the candidates")
            positive = ranked[place]
        if config.min_relevance is not None and (positive.rc is None or positive.rc < config.min_relevance):
            label = "-" if positive.rc is None else f"{positive.rc:.2f}"
            return None, ("low_relevance", f"{label} of the positive is below {config.min_relevance:g}")
        if positive.probability is None:
            return positive, ("", "")
        least = _least_probability(config, len(ranked))
        if positive.probability < least:
            detail = f"{positive.probability:.2f} of the positive is below {least:g}"
            return None, ("low_probability", detail)
        if seed_id is not None and config.seed_rank is not None and (place is None or place >= config.seed_rank):
            detail = f"rank {place + 1} by the judges" if place is not None else f"not among {len(ranked)}"
            return None, ("seed_not_found", detail)
        return positive, ("", "")

    def _negatives(self, query: Query, ranked: list[Candidate], positive: Candidate) -> list[str]:
        config = self._config
        if config.negative == "none":
            return []
        ceiling = None if config.max_similarity is None else config.max_similarity * positive.similarity
        allowed = [c for c in reversed(ranked) if ceiling is None or c.similarity < ceiling]
        if self._fusion is not None:  # the hardest of those that are surely none of the answers
            allowed = [c for c in reversed(allowed) if (c.probability or 0.0) < config.max_probability]
        ids = [c.id for c in allowed]
        if config.negative == "random":
            ids = [ids[place] for place in generator("negative", self._seed, query.id).permutation(len(ids))]
        taken = {self._text_key(identifier) for identifier in (positive.id, query.seed_id) if identifier is not None}
        negatives: list[str] = []
        for identifier in ids:
            if len(negatives) == config.negatives:
                break
            key = self._text_key(identifier)
            if identifier not in (positive.id, query.seed_id) and key not in taken:
                taken.add(key)
                negatives.append(identifier)
        return negatives

    def _text_key(self, identifier: str) -> str:
        # Not `rules.key`: a passage that differs from the positive in its punctuation alone is an answer as well.
        return " ".join(self._rules.words(self._corpus.get(identifier).text))


def _least_probability(config: MineConfig, candidates: int) -> float:
    """Of a positive: what the configuration asks for, and not what any of three candidates has by chance."""
    chance = min(_SURE_OF_FEW, _ABOVE_CHANCE / candidates) if config.min_probability else 0.0
    return max(config.min_probability, round(chance, 4))


class MineStep(PartStep[JudgedQuery, MinedRow]):
    """Scores to training rows, part for part."""

    name = "mine"
    folder = "fret"
    row = MinedRow
    counted_as = "rows"
    must_have_rows = True
    upstream = (SCORE,)

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """See ``Step.depends_on``; the measurement has the weights of the judges."""
        return (SCORE, MEASURE) if measures(config) else (SCORE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The seed, the settings of mining, and the content of the evaluation sets."""
        config = build.config
        return [
            config.seed,
            config.mine.model_dump(exclude={"decontaminate", *(() if measures(config) else _CALIBRATED_KEYS)}),
            [content_fingerprint(source) for source in config.mine.decontaminate],
        ]

    def format(self, config: FretConfig) -> int:
        """Format 1 has what the paper's judges and fusion give; whatever is beyond needs format 2."""
        return 1 if not measures(config) and config.score.all_judges == list(PAPER_JUDGES) else 2

    def estimate(self, plan: Plan) -> None:
        """See ``Step.estimate``."""
        passed = RETRIEVE.passed(plan.like) if plan.like else 0
        kept = plan.like.counts["rows"] / passed if plan.like and passed else 1.0
        plan.rows["rows"] = plan.rows["passed"] * kept

    def layout(self, config: FretConfig) -> Layout[MinedRow]:
        """The columns of ``MinedRow``; ``source`` where there are others than the LLM.

        In format 1 candidates have neither ``scores`` nor ``probability``.
        """
        layout = layout_of(MinedRow, config.score.all_judges)
        schema = layout.schema
        if config.generate.sources == ["llm"]:
            schema = schema.remove(schema.get_field_index("source"))
            layout = dataclasses.replace(layout, optional=("source",))
        if self.format(config) == 1:
            fields = [field for field in arrow_type(Candidate) if field.name not in ("scores", "probability")]
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
            values = {
                name: JUDGES[name].value(judgement)
                for name, judgement in pair.judgements.items()
                if judgement is not None
            }
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
        rules, sources = config.corpus.rules, config.mine.decontaminate
        contaminated = Contamination.load(sources, rules) if sources else None
        fusion = MEASURE.fusion(build) if measures(config) else None
        return Mine(build.corpus, config.mine, config.seed, contaminated, fusion, rules)


MINE = MineStep()


def _read_row(record: dict[str, Any]) -> MinedRow:
    return MinedRow(**record | {"candidates": [_read_candidate(candidate) for candidate in record["candidates"]]})


def _read_candidate(record: dict[str, Any]) -> Candidate:
    scores = record.get("scores") or {"ql": record["ql"], "rc": record["rc"]}
    return Candidate(**record | {"scores": dictionary_of(scores)})
