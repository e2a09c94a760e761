"""FRet step 2, second half: the LLM's two opinions of every candidate."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from gecko_fret.config import ScoreConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.llm.protocol import LLM, Scored
from gecko_fret.prompting import PromptSet, one_line, prompt_text
from gecko_fret.steps.base import Row, StageResult

SCORED_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("candidate_id", pa.string()),
        ("ql", pa.float32()),
        ("rc", pa.list_(pa.float32())),
    ]
)


class Score:
    """Rows {query_id, kind, query, candidate_ids} to one row per candidate (`SCORED_SCHEMA`).

    ql: mean log-probability of the query's tokens given the passage (UPR, Sachan et al. 2022).
    rc: probabilities of the relevance labels, read from the logits of the label tokens alone (Zhuang et al. 2023).
    Mode "joint" reads both from one forward pass.
    """

    def __init__(self, corpus: Corpus, llm: LLM, prompts: PromptSet, config: ScoreConfig):
        self._corpus, self._llm, self._prompts, self._config = corpus, llm, prompts, config

    def __call__(self, rows: Sequence[Row]) -> StageResult:
        pairs = [(row, identifier) for row in rows for identifier in row["candidate_ids"]]
        before = self._llm.usage.prompt_tokens
        passages = self._passages({identifier for _, identifier in pairs})
        queries = [one_line(row["query"]) for row in rows]
        short = dict(zip(queries, self._llm.truncate(queries, self._config.query_tokens), strict=True))
        triples = [(row["kind"], passages[identifier], short[one_line(row["query"])]) for row, identifier in pairs]
        likelihoods, labels = self._joint(triples) if self._config.mode == "joint" else self._separate(triples)
        done = [
            {"query_id": row["query_id"], "candidate_id": identifier, "ql": ql.logprob, "rc": list(rc.labels)}
            for (row, identifier), ql, rc in zip(pairs, likelihoods, labels, strict=True)
        ]
        counters = {"pairs": len(pairs), "prompt_tokens": self._llm.usage.prompt_tokens - before}
        return StageResult(done, counters=counters)

    def close(self) -> None:
        self._llm.close()

    def _passages(self, ids: set[str]) -> dict[str, str]:
        ordered = sorted(ids)
        texts = [prompt_text(self._corpus.get(identifier)) for identifier in ordered]
        return dict(zip(ordered, self._llm.truncate(texts, self._config.passage_tokens), strict=True))

    def _separate(self, triples: Sequence[tuple[str, str, str]]) -> tuple[list[Scored], list[Scored]]:
        likelihoods = self._llm.score([self._prompts.likelihood(*triple) for triple in triples])
        labels = self._llm.score(
            [self._prompts.classification(passage, query) for _, passage, query in triples],
            self._prompts.label_strings("separate"),
        )
        return likelihoods, labels

    def _joint(self, triples: Sequence[tuple[str, str, str]]) -> tuple[list[Scored], list[Scored]]:
        scored = self._llm.score(
            [self._prompts.joint_scoring(passage, query) for _, passage, query in triples],
            self._prompts.label_strings("joint"),
        )
        return scored, scored


def expected_label(probabilities: Sequence[float]) -> float:
    """Expected value of the relevance label, 0 to 4 with five labels."""
    return sum(label * probability for label, probability in enumerate(probabilities))
