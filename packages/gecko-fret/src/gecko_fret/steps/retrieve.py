"""FRet step 2, first half: every query's nearest passages by the embedder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gecko_core.io import Progress
from gecko_fret.config import FretConfig, RetrieveConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges.bm25 import TERMS, split_words
from gecko_fret.steps.base import BuildContext, PartStep, StepResult, Work
from gecko_fret.steps.embed import EMBED
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.first_pass import build_embedder, prepare_first_pass
from gecko_fret.steps.index import Blocks, HnswIndex, Index, make_index, recall, refine
from gecko_fret.steps.lexical import LexicalIndex
from gecko_fret.steps.plan import Measured, Plan
from gecko_fret.steps.sources import as_shown


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The N passages nearest to a query, best first, then those that BM25 added; the columns of the parts.

    ``seed_rank`` is the rank of the query's seed among them, from 1; None where it is not among them, or has none. For
    a title they are ordered anew, by what they are without theirs.
    """

    query_id: str
    seed_rank: int | None
    candidate_ids: list[str]
    similarities: list[float]


class Retrieve:
    """Queries to their nearest passages.

    The query text is what the embedder was trained on: ``task: ... | query: ...`` for a Gecko model, the plain query
    for another one. The seed gets no place of its own among the candidates.

    Args:
        corpus: the passages.
        embedder: a ``gecko_core.Gecko``.
        index: finds the neighbours.
        config: section ``retrieve``.
        batch_tokens: tokens per forward pass of the embedder; None: what suits the device.
        lexical: finds further candidates by their words, and the blocks of the corpus' vectors; None: nobody does.
    """

    def __init__(
        self,
        corpus: Corpus,
        embedder: Any,
        index: Index,
        config: RetrieveConfig,
        batch_tokens: int | None,
        lexical: tuple[LexicalIndex, Blocks] | None = None,
    ):
        self._corpus, self._lexical = corpus, lexical
        self._ids = np.array(corpus.ids, dtype=object)
        self._embedder, self._index, self._config, self._batch_tokens = embedder, index, config, batch_tokens
        self._seed_top_k = config.seed_top_k if isinstance(config.seed_top_k, int) else None

    def __call__(self, queries: Sequence[Query]) -> StepResult[Retrieved]:
        """Search; a query that does not find its own seed is retrieved and rejected, one without a seed never."""
        if not queries:
            return StepResult([])
        vectors = self._encode(queries)
        numbers, similarities = self._index.search(vectors, self._config.candidates)
        further = self._further(queries, vectors, numbers)
        retrieved, rejects = [], []
        found = zip(queries, vectors, numbers, similarities, further, strict=True)
        for query, vector, rows, values, (more, their_values) in found:
            ids = self._ids[rows].tolist() + self._ids[more].tolist()
            cosines = values.tolist() + their_values.tolist()
            if query.source == "titles":
                ids, cosines = self._without_titles(query, vector, ids)
            rank = ids.index(query.seed_id) + 1 if query.seed_id in ids else None
            retrieved.append(Retrieved(query.id, rank, ids, cosines))
            if query.seed_id is not None and not passes_round_trip(rank, self._seed_top_k):
                detail = f"rank {rank}" if rank else f"not among {len(ids)}"
                rejects.append(RETRIEVE.reject("seed_not_found", query.id, query.query, detail))
        return StepResult(retrieved, rejects)

    def _without_titles(self, query: Query, vector: np.ndarray, ids: list[str]) -> tuple[list[str], list[float]]:
        """The candidates by their similarity to a title, as passages that do not show theirs."""
        passages = [as_shown(self._corpus.get(identifier), query.source) for identifier in ids]
        encoded = self._embedder.encode_documents(
            [p.text for p in passages], [p.title for p in passages], batch_tokens=self._batch_tokens
        )
        cosines = encoded @ vector
        order = np.argsort(-cosines, kind="stable").tolist()
        return [ids[place] for place in order], cosines[order].tolist()

    def _further(
        self, queries: Sequence[Query], vectors: np.ndarray, numbers: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows that BM25 alone found for every query and their similarities, nearest first."""
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.float32))
        if self._lexical is None:
            return [nothing] * len(queries)
        index, blocks = self._lexical
        count = self._config.bm25
        found = index.search([query.query for query in queries], count + numbers.shape[1])
        further = []
        for vector, near, rows in zip(vectors, numbers, found, strict=True):
            known = set(near.tolist())
            new = np.array([row for row in rows if row not in known][:count], np.int64)
            ordered = refine(blocks, vector[None], new[None]) if len(new) else None
            further.append((ordered[0][0], ordered[1][0]) if ordered else nothing)
        return further

    def _encode(self, queries: Sequence[Query]) -> np.ndarray:
        vectors: np.ndarray | None = None
        for task in sorted({query.task for query in queries}):
            places = [place for place, query in enumerate(queries) if query.task == task]
            encoded = self._embedder.encode_queries(
                [queries[place].query for place in places], task=task, batch_tokens=self._batch_tokens
            )
            if vectors is None:
                vectors = np.empty((len(queries), encoded.shape[1]), dtype=np.float32)
            vectors[places] = encoded
        assert vectors is not None
        return vectors


class RetrieveStep(PartStep[Query, Retrieved]):
    """Queries to candidates, part for part."""

    name = "retrieve"
    folder = "retrieved"
    row = Retrieved
    counted_as = "retrieved"
    recorded_as = "search"
    upstream = (FILTER, EMBED)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The settings of retrieval but for the cache, which changes no vector."""
        config = build.config
        untitled = [["titles without titles"]] if "titles" in config.generate.sources else []
        if not config.retrieve.bm25:  # as in version 0.1, which had no such setting
            return [config.retrieve.model_dump(exclude={"cache", "bm25"}), *untitled]
        return [config.retrieve.model_dump(exclude={"cache"}), config.score.bm25.model_dump(), TERMS, *untitled]

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: BM25 needs its library."""
        if config.retrieve.bm25:
            split_words([""], config.score.bm25)

    def estimate(self, plan: Plan) -> None:
        """See ``Step.estimate``; ``passed`` are the queries that find their seed."""
        kept = plan.like.rate(self.passed(plan.like), "queries") if plan.like else 1.0
        plan.rows["retrieved"] = plan.rows["queries"]
        plan.rows["passed"] = plan.rows["queries"] * kept

    def passed(self, like: Measured) -> int:
        """Queries of a finished build that found their seed."""
        return like.counts["retrieved"] - sum(like.rejects.get(self.name, {}).values())

    def prepare(self, build: BuildContext, progress: Progress) -> None:
        """Train the embedder again where it was deleted after embedding."""
        prepare_first_pass(build, progress)

    def inputs(self, build: BuildContext, number: int) -> Sequence[Query]:
        """The queries of part ``number``."""
        return build.parts(FILTER).rows(number)

    def make(self, build: BuildContext) -> Work[Query, Retrieved]:
        """Load the embedder and the index."""
        config = build.config
        lexical = None
        if config.retrieve.bm25:
            lexical = LexicalIndex(build.corpus, config.score.bm25), EMBED.embeddings(build).blocks()
        embedder, index = build_embedder(build), self.index(build)
        return Retrieve(build.corpus, embedder, index, config.retrieve, config.embedder.batch_tokens, lexical)

    def record(self, build: BuildContext) -> dict[str, Any]:
        """Kind of search, its recall against exact search, and the recall of a graph that was given up for it."""
        index, count = self.index(build), build.config.retrieve.candidates
        blocks = EMBED.embeddings(build).blocks()
        measured = 1.0 if index.kind == "exact" else recall(index, blocks, count, seed=build.config.seed)
        record = {"kind": index.kind, f"recall_at_{count}": measured}
        if isinstance(index, HnswIndex) and index.kind == "exact":
            record["recall_of_hnsw"] = index.measured
        return record

    def index(self, build: BuildContext) -> Index:
        """The index over the corpus, made once."""
        config = build.config.retrieve

        def make() -> Index:
            return make_index(
                EMBED.embeddings(build).blocks(),
                config.search,
                queries=build.parts(FILTER).total,
                hnsw_above=config.hnsw_above,
                repeatable=config.hnsw_repeatable,
                device=build.config.embedder.device,
            )

        return build.keep("index", make)


RETRIEVE = RetrieveStep()


def passes_round_trip(seed_rank: int | None, top_k: int | None) -> bool:
    """Whether a query finds its own seed well enough to be worth scoring."""
    return top_k is None or (seed_rank is not None and seed_rank <= top_k)
