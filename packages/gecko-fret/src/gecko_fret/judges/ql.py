"""Query likelihood: how probable the LLM finds the query after it has read the passage."""

from __future__ import annotations

from collections.abc import Sequence

from gecko_fret.config import ScoreConfig
from gecko_fret.judges.base import Batch, Judge


class QueryLikelihood(Judge):
    """Mean log-probability of the query's tokens given the passage (UPR, Sachan et al. 2022)."""

    name = "ql"
    uses_llm = True

    def judge(self, batch: Batch) -> Sequence[float]:
        """Mean log-probability per token of every query."""
        if batch.is_joint(self.name):
            return [scored.logprob for scored in batch.joint.pairs]
        requests = [batch.prompts.likelihood(pair.kind, pair.passage, pair.query) for pair in batch.prompted]
        return [scored.logprob for scored in batch.score(requests)]

    @classmethod
    def passes(cls, config: ScoreConfig) -> int:
        """One."""
        return 1
