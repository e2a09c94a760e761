"""Fusing the two rankings, and choosing positive and negatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gecko_core.randomness import generator
from gecko_core.text_identity import words_key
from gecko_fret.config import MineConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import Row, StageResult, reject
from gecko_fret.steps.score import expected_label

CANDIDATE_TYPE = pa.struct(
    [
        ("id", pa.string()),
        ("similarity", pa.float32()),
        ("ql", pa.float32()),
        ("rc", pa.float32()),
        ("rank_ql", pa.int32()),
        ("rank_rc", pa.int32()),
        ("fused", pa.float64()),
    ]
)
FRET_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("query", pa.string()),
        ("positive_id", pa.string()),
        ("negative_ids", pa.list_(pa.string())),
        ("seed_id", pa.string()),
        ("seed_rank", pa.int32()),
        ("candidates", pa.list_(CANDIDATE_TYPE)),
    ]
)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its scores, its two ranks (from 1) and R = 1/(k + rank_ql) + 1/(k + rank_rc)."""

    id: str
    similarity: float
    ql: float
    rc: float
    rank_ql: int
    rank_rc: int
    fused: float

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def fuse(candidates: Sequence[dict[str, Any]], k: float = 0.0) -> list[Ranked]:
    """Candidates {id, similarity, ql, rc} by their fused score, best first (Gecko, section 3.2; k = 0 there).

    Ties. Within one ranking, equal scores are ordered by similarity, then by id. Equal fused scores, common with k = 0
    (1 and 3 fuse to the same as 3 and 1), are ordered by rank_QL, then by similarity, then by id.
    """
    ranks: dict[str, dict[str, int]] = {}
    for score in ("ql", "rc"):
        ordered = sorted(candidates, key=lambda c: (-c[score], -c["similarity"], c["id"]))
        ranks[score] = {candidate["id"]: place for place, candidate in enumerate(ordered, start=1)}
    ranked = [
        Ranked(
            c["id"],
            c["similarity"],
            c["ql"],
            c["rc"],
            ranks["ql"][c["id"]],
            ranks["rc"][c["id"]],
            1 / (k + ranks["ql"][c["id"]]) + 1 / (k + ranks["rc"][c["id"]]),
        )
        for c in candidates
    ]
    return sorted(ranked, key=lambda r: (-r.fused, r.rank_ql, -r.similarity, r.id))


class Mine:
    """Rows {id, task, query, seed_id, seed_rank, candidates: [{id, similarity, ql, rc: [5]}]} to `FRET_SCHEMA`.

    A negative is never the positive, the seed, or a passage whose text equals one of theirs or another negative's; its
    similarity to the query is below `max_similarity` times the positive's (NV-Retriever's TopK-PercPos).
    """

    def __init__(
        self, corpus: Corpus, config: MineConfig, seed: int, contaminated: Callable[[str], str | None] | None = None
    ):
        self._corpus, self._config, self._seed = corpus, config, seed
        self._contaminated = contaminated

    def __call__(self, rows: Sequence[Row]) -> StageResult:
        done, rejects = [], []
        for row in rows:
            mined, reason, detail = self._mine(row)
            if reason:
                rejects.append(reject("mine", reason, row["id"], row["query"], detail))
            else:
                done.append(mined)
        return StageResult(done, rejects)

    def close(self) -> None:
        """Holds nothing that needs closing."""

    def _mine(self, row: Row) -> tuple[Row, str, str]:
        scored = [candidate | {"rc": expected_label(candidate["rc"])} for candidate in row["candidates"]]
        ranked = fuse(scored, self._config.rrf_k)
        if self._config.positive == "seed":
            positive = next((r for r in ranked if r.id == row["seed_id"]), None)
            if positive is None:
                return {}, "seed_absent", "positive: seed, but the seed is not among the candidates"
        else:
            positive = ranked[0]
        least = self._config.min_relevance
        if least is not None and positive.rc < least:
            return {}, "low_relevance", f"{positive.rc:.2f} of the positive is below {least:g}"
        found = self._contaminated(row["query"]) if self._contaminated else None
        found = found or (self._contaminated(self._corpus.get(positive.id).full_text) if self._contaminated else None)
        if found:
            return {}, "contaminated", found
        negatives = self._negatives(row, ranked, positive)
        if not negatives and self._config.require_negative and self._config.negative != "none":
            return {}, "no_negative", "every other candidate is too similar, or the same text"
        mined = {name: row[name] for name in ("id", "task", "query", "seed_id", "seed_rank")} | {
            "positive_id": positive.id,
            "negative_ids": negatives,
            "candidates": [candidate.as_dict() for candidate in ranked],
        }
        return mined, "", ""

    def _negatives(self, row: Row, ranked: list[Ranked], positive: Ranked) -> list[str]:
        config = self._config
        if config.negative == "none":
            return []
        ceiling = None if config.max_similarity is None else config.max_similarity * positive.similarity
        allowed = [c.id for c in reversed(ranked) if ceiling is None or c.similarity < ceiling]
        if config.negative == "random":
            order = generator("negative", self._seed, row["id"]).permutation(len(allowed))
            allowed = [allowed[place] for place in order]
        taken = {self._text_key(positive.id), self._text_key(row["seed_id"])}
        negatives: list[str] = []
        for identifier in allowed:
            if len(negatives) == config.negatives:
                break
            key = self._text_key(identifier)
            if identifier not in (positive.id, row["seed_id"]) and key not in taken:
                taken.add(key)
                negatives.append(identifier)
        return negatives

    def _text_key(self, identifier: str) -> str:
        return words_key(self._corpus.get(identifier).text)
