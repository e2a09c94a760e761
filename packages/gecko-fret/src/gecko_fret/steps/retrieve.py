"""FRet step 2, first half: every query's nearest passages by the embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from gecko_fret.config import RetrieveConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import Row, StageResult, reject
from gecko_fret.steps.index import Index

RETRIEVED_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("seed_rank", pa.int32()),
        ("candidate_ids", pa.list_(pa.string())),
        ("similarities", pa.list_(pa.float32())),
    ]
)


class Retrieve:
    """Queries to their N nearest passages (`RETRIEVED_SCHEMA`), best first.

    The query text is what the embedder was trained on: `task: ... | query: ...` for a Gecko model, the plain query for
    another. The seed gets no place of its own: `seed_rank` is its rank among the N, null when it is not there.
    """

    def __init__(self, corpus: Corpus, embedder: Any, index: Index, config: RetrieveConfig, batch_tokens: int | None):
        self._ids = np.array(corpus.ids, dtype=object)
        self._embedder, self._index, self._config, self._batch_tokens = embedder, index, config, batch_tokens

    def __call__(self, rows: Sequence[Row]) -> StageResult:
        if not rows:
            return StageResult([])
        found, similarities = self._index.search(self._encode(rows), self._config.candidates)
        done, rejects = [], []
        for row, numbers, values in zip(rows, found, similarities, strict=True):
            ids = self._ids[numbers].tolist()
            rank = ids.index(row["seed_id"]) + 1 if row["seed_id"] in ids else None
            done.append(
                {"query_id": row["id"], "seed_rank": rank, "candidate_ids": ids, "similarities": values.tolist()}
            )
            if not passes_round_trip(rank, self._config.seed_top_k):
                where = f"rank {rank}" if rank else f"not among {len(ids)}"
                rejects.append(reject("retrieve", "seed_not_found", row["id"], row["query"], where))
        return StageResult(done, rejects)

    def close(self) -> None:
        """Holds nothing that needs closing."""

    def _encode(self, rows: Sequence[Row]) -> np.ndarray:
        vectors: np.ndarray | None = None
        for task in sorted({row["task"] for row in rows}):
            places = [place for place, row in enumerate(rows) if row["task"] == task]
            encoded = self._embedder.encode_queries(
                [rows[place]["query"] for place in places], task=task, batch_tokens=self._batch_tokens
            )
            if vectors is None:
                vectors = np.empty((len(rows), encoded.shape[1]), dtype=np.float32)
            vectors[places] = encoded
        assert vectors is not None
        return vectors


def passes_round_trip(seed_rank: int | None, top_k: int | None) -> bool:
    """Whether a query finds its own seed well enough to be worth scoring."""
    return top_k is None or (seed_rank is not None and seed_rank <= top_k)
