"""FRet step 2, second half: what the judges think of every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gecko_core.errors import ConfigError
from gecko_fret.config import PAPER_JUDGES, FretConfig, ScoreConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges import JUDGES, Pair
from gecko_fret.judges.joint import joint_prompt
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.base import BuildContext, PartStep, Step, StepResult, Work
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.judging import (
    Panel,
    ScoredPair,
    judging_fingerprint,
    llm_passes,
    llm_reads,
    make_panel,
    scored_layout,
)
from gecko_fret.steps.measure import MEASURE, measures
from gecko_fret.steps.parts import Layout
from gecko_fret.steps.plan import Measured, Plan, StepCost
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved
from gecko_fret.steps.sources import as_shown


@dataclass(frozen=True, slots=True)
class Candidates:
    """A query that passed the round trip, and its candidates."""

    query: Query
    retrieved: Retrieved


class Score:
    """Queries with candidates to one row per candidate.

    Args:
        panel: the judges.
        corpus: the passages.
    """

    def __init__(self, panel: Panel, corpus: Corpus):
        self._panel, self._corpus = panel, corpus

    def __call__(self, rows: Sequence[Candidates]) -> StepResult[ScoredPair]:
        """Let every judge judge every pair."""
        scored = self._panel([pair for row in rows for pair in self._pairs(row)])
        of_judges = {f"{name}_tokens" for name in JUDGES}  # shown of the measurement alone
        counters = {name: count for name, count in scored.counters.items() if name not in of_judges}
        return StepResult(scored.rows, counters=counters)

    def _pairs(self, row: Candidates) -> list[Pair]:
        query, retrieved = row.query, row.retrieved
        passages = [as_shown(self._corpus.get(identifier), query.source) for identifier in retrieved.candidate_ids]
        return [
            Pair(query.id, query.kind, query.query, passage, similarity)
            for passage, similarity in zip(passages, retrieved.similarities, strict=True)
        ]


class ScoreStep(PartStep[Candidates, ScoredPair]):
    """Candidates to scores, part for part."""

    name = "score"
    folder = "scored"
    counted_as = "scored_pairs"
    metered = True
    upstream = (RETRIEVE,)

    def depends_on(self, config: FretConfig) -> tuple[Step[Any], ...]:
        """See ``Step.depends_on``; the measurement decides which judges are asked."""
        return (RETRIEVE, MEASURE) if _skips(config) else (RETRIEVE,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """See ``judging_fingerprint``, and whether judges of weight 0 are left out."""
        return [*judging_fingerprint(build), *([["skip_useless"]] if _skips(build.config) else [])]

    def prompt_hashes(self, config: FretConfig) -> dict[str, str]:
        """The prompts for scoring, and those of single judges."""
        hashes = {"score": load_prompts(config.score.prompt).hash}
        for name in config.score.all_judges:
            hashes |= JUDGES[name].prompt_hashes(config) if name in JUDGES else {}
        return hashes

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: unknown judges, and joint scoring with prompts that have none."""
        for name in config.score.all_judges:
            if name not in JUDGES:
                raise ConfigError(f"score.judges: no judge is called {name!r}; there are {', '.join(JUDGES)}")
            JUDGES[name].check(config)
        joint_prompt(config.score)

    def estimate(self, plan: Plan) -> StepCost:
        """See ``Step.estimate``."""
        config, like = plan.config, plan.like
        pairs = plan.rows["scored_pairs"] = plan.rows["passed"] * min(config.retrieve.candidates, plan.passages)
        (passes, read), seconds = llm_reads(plan, pairs), 0.0
        measured = _measured_passes(like) if like else 0
        if like and measured:
            share = pairs * passes / measured
            read, seconds = share * like.tokens[self.name]["prompt_tokens"], share * like.seconds[self.name]
        less = ", less where queries share passages" if config.score.blocks and not like else ""
        line = f"{plan.bound} {pairs:.0f} pairs x {passes}: {read:.0f} tokens read{less}"
        return StepCost(line, pairs * passes, read, seconds=seconds, measured=not passes or measured > 0)

    def layout(self, config: FretConfig) -> Layout[ScoredPair]:
        """See ``scored_layout``."""
        return scored_layout(config.score.all_judges)

    def common_layout(self) -> Layout[ScoredPair]:
        """The ids alone: every build has its own judges."""
        return scored_layout(())

    def units(self, build: BuildContext, number: int) -> int:
        """Queries of part ``number`` that passed the round trip."""
        return build.parts(FILTER).count(number) - RETRIEVE.rejects(build.out).count(number)

    def answers(self, build: BuildContext, units: int) -> int:
        """See ``PartStep.answers``."""
        candidates = min(build.config.retrieve.candidates, len(build.corpus))
        return units * candidates * llm_passes(build.config.score, self._asked(build))

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
        """Make the judges that are worth asking."""
        return Score(make_panel(build, self._asked(build)), build.corpus)

    def _asked(self, build: BuildContext) -> Sequence[str]:
        return MEASURE.useful(build) if _skips(build.config) else build.config.score.all_judges


SCORE = ScoreStep()


def _measured_passes(like: Measured) -> int:
    """Passes of the LLM over pairs in a finished build."""
    # Manifests of version 0.1 name no judges: there were only the paper's.
    earlier = llm_passes(ScoreConfig.model_validate({"judges": PAPER_JUDGES} | like.config["score"]))
    return like.counts["scored_pairs"] * earlier


def _skips(config: FretConfig) -> bool:
    return measures(config) and config.score.skip_useless
