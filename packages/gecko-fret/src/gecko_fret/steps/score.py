"""FRet step 2, second half: what the judges think of every candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gecko_core.errors import ConfigError
from gecko_fret.config import FretConfig, ScoreConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES, Batch, Judge, Pair
from gecko_fret.llm.protocol import LLM
from gecko_fret.models import llm_settings
from gecko_fret.prompting import PromptSet, load_prompts
from gecko_fret.steps.base import BuildContext, PartStep, StepResult, Work
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.parts import Layout
from gecko_fret.steps.plan import TEMPLATE_TOKENS, Plan, StepCost
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """What every judge said of one pair. In the parts each judge has a column of its name and type."""

    query_id: str
    candidate_id: str
    judgements: Mapping[str, float | list[float]]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A query that passed the round trip, and its candidates."""

    query: Query
    retrieved: Retrieved


class Score:
    """Queries with candidates to one row per candidate.

    Args:
        corpus: the passages.
        llm: the scoring LLM.
        prompts: the prompts for scoring.
        config: section ``score``.
        judges: who judges, in the order of the columns.
    """

    def __init__(self, corpus: Corpus, llm: LLM, prompts: PromptSet, config: ScoreConfig, judges: Sequence[Judge]):
        self._corpus, self._llm, self._prompts, self._config, self._judges = corpus, llm, prompts, config, judges

    def __call__(self, rows: Sequence[Candidates]) -> StepResult[ScoredPair]:
        """Let every judge judge every pair."""
        before = self._llm.usage.prompt_tokens
        pairs = [pair for row in rows for pair in self._pairs(row)]
        batch = Batch(pairs, self._llm, self._prompts, self._config)
        columns = {judge.name: judge.judge(batch) for judge in self._judges}
        scored = [
            ScoredPair(pair.query_id, pair.passage.id, {name: column[place] for name, column in columns.items()})
            for place, pair in enumerate(pairs)
        ]
        counters = {"pairs": len(pairs), "prompt_tokens": self._llm.usage.prompt_tokens - before}
        return StepResult(scored, counters=counters)

    def _pairs(self, row: Candidates) -> list[Pair]:
        query, retrieved = row.query, row.retrieved
        return [
            Pair(query.id, query.kind, query.query, self._corpus.get(identifier), similarity)
            for identifier, similarity in zip(retrieved.candidate_ids, retrieved.similarities, strict=True)
        ]


class ScoreStep(PartStep[Candidates, ScoredPair]):
    """Candidates to scores, part for part."""

    name = "score"
    folder = "scored"
    counted_as = "scored_pairs"
    metered = True
    upstream = (RETRIEVE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The settings of scoring, the prompts, the LLM; and judges beyond the two that every build has."""
        config, models = build.config, build.models
        further = config.score.further_judges
        return [
            config.score.model_dump(exclude={"judges"}),
            load_prompts(config.score.prompt).hash,
            llm_settings(config.llm),
            models.llm_fingerprint(config.llm),
            *([[name, *JUDGES[name].fingerprint(config, models)] for name in further]),
        ]

    def prompt_hashes(self, config: FretConfig) -> dict[str, str]:
        """The prompts for scoring."""
        return {"score": load_prompts(config.score.prompt).hash}

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: unknown judges, and joint scoring with prompts that have none."""
        for name in config.score.judges:
            if name not in JUDGES:
                raise ConfigError(f"score.judges: no judge is called {name!r}; there are {', '.join(JUDGES)}")
        if config.score.mode == "joint":
            load_prompts(config.score.prompt).joint_scoring("", "")

    def estimate(self, plan: Plan) -> StepCost:
        """See ``Step.estimate``."""
        config, like = plan.config, plan.like
        passes = _passes(config.score)
        pairs = plan.rows["scored_pairs"] = plan.rows["passed"] * min(config.retrieve.candidates, plan.passages)
        tokens = plan.text_tokens(config.score.passage_tokens) + config.generate.max_new_tokens + TEMPLATE_TOKENS
        read, seconds = float(round(pairs * passes * tokens)), 0.0
        if like:
            earlier = _passes(ScoreConfig.model_validate(like.config["score"]))
            share = pairs * passes / (like.counts["scored_pairs"] * earlier)
            read, seconds = share * like.tokens[self.name]["prompt_tokens"], share * like.seconds[self.name]
        line = f"{plan.bound} {pairs:.0f} pairs x {passes}: {read:.0f} tokens read"
        return StepCost(line, pairs * passes, read, seconds=seconds)

    def layout(self, config: FretConfig) -> Layout[ScoredPair]:
        """The two ids, and a column for every judge."""
        names = config.score.all_judges
        text = pa.string()
        schema = pa.schema(
            [("query_id", text), ("candidate_id", text), *((name, JUDGES[name].column) for name in names)]
        )
        return Layout(
            schema,
            lambda row: {"query_id": row.query_id, "candidate_id": row.candidate_id, **row.judgements},
            lambda record: ScoredPair(
                record["query_id"], record["candidate_id"], {name: record[name] for name in names}
            ),
        )

    def units(self, build: BuildContext, number: int) -> int:
        """Queries of part ``number`` that passed the round trip."""
        return build.parts(FILTER).count(number) - RETRIEVE.rejects(build.out).count(number)

    def inputs(self, build: BuildContext, number: int) -> Sequence[Candidates]:
        """Queries of part ``number`` that passed the round trip, with their candidates."""
        retrieved = {row.query_id: row for row in build.parts(RETRIEVE).rows(number)}
        left_out = {reject.id for reject in RETRIEVE.rejects(build.out).rows(number)}
        return [
            Candidates(query, retrieved[query.id])
            for query in build.parts(FILTER).rows(number)
            if query.id not in left_out
        ]

    def make(self, build: BuildContext) -> Work[Candidates, ScoredPair]:
        """Load the LLM and make the judges."""
        config = build.config
        judges = [JUDGES[name](config, build.models) for name in config.score.all_judges]
        return Score(
            build.corpus, build.models.llm(config.llm), load_prompts(config.score.prompt), config.score, judges
        )


SCORE = ScoreStep()


def _passes(config: ScoreConfig) -> int:
    # A measured build may name a judge that is not registered here.
    return sum(JUDGES[name].passes(config) for name in config.all_judges if name in JUDGES)
