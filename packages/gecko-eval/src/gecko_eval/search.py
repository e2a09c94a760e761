"""Exact search in blocks: memory does not grow with the corpus, and ties always fall the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


class TopK:
    """The best ``k`` documents per query, fed one block of documents at a time.

    Equal scores are ordered by document id, the larger id first: trec_eval's rule, which mteb follows, so that a
    ranking scores the same here and there. The result does not depend on how the corpus is cut into blocks.
    """

    def __init__(self, n_queries: int, doc_ids: Sequence[str], k: int, query_block: int = 1024) -> None:
        # tie_rank[i]: place of document i among all ids in descending order.
        order = sorted(range(len(doc_ids)), key=lambda i: doc_ids[i], reverse=True)
        self._tie_rank = torch.empty(len(doc_ids), dtype=torch.int64)
        self._tie_rank[torch.tensor(order, dtype=torch.int64)] = torch.arange(len(doc_ids))
        self._by_rank = torch.tensor(order, dtype=torch.int64)
        self._query_block = query_block
        self.k = min(k, len(doc_ids))
        self._scores = torch.empty((n_queries, 0), dtype=torch.float32)
        self._ranks = torch.empty((n_queries, 0), dtype=torch.int64)

    def add(self, queries: torch.Tensor, documents: torch.Tensor, first: int) -> None:
        """Scores one block.

        Args:
            queries: (n_queries, dim).
            documents: (b, dim), the embeddings of documents ``first`` to ``first + b - 1``.
            first: index of the block's first document.
        """
        ranks = self._tie_rank[first : first + len(documents)]
        by_id = torch.argsort(ranks)
        documents, ranks = documents[by_id.to(documents.device)], ranks[by_id]
        merged = []
        for start in range(0, len(queries), self._query_block):
            rows = slice(start, start + self._query_block)
            scores = (queries[rows] @ documents.T).float()
            best, at = _stable_topk(scores, min(self.k, scores.shape[1]))
            merged.append(self._merge(rows, best.cpu(), ranks[at.cpu()]))
        self._scores = torch.cat([m[0] for m in merged])
        self._ranks = torch.cat([m[1] for m in merged])

    def _merge(self, rows: slice, scores: torch.Tensor, ranks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.cat([self._scores[rows], scores], dim=1)
        ranks = torch.cat([self._ranks[rows], ranks], dim=1)
        by_id = torch.argsort(ranks, dim=1)
        scores, ranks = scores.gather(1, by_id), ranks.gather(1, by_id)
        scores, at = torch.sort(scores, dim=1, descending=True, stable=True)
        return scores[:, : self.k], ranks.gather(1, at)[:, : self.k]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(indices, scores), both (n_queries, k), best first."""
        return self._by_rank[self._ranks].numpy(), self._scores.numpy()


def _stable_topk(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Top-k of every row in which, of equal scores, the smaller column comes first.

    ``torch.topk`` leaves the order of ties open. It is the faster way wherever the k-th score is not shared with a
    column outside; only the other rows pay for a full stable sort.
    """
    if k == scores.shape[1]:
        return torch.sort(scores, dim=1, descending=True, stable=True)
    values, columns = torch.topk(scores, k + 1, dim=1)
    shared = values[:, k - 1] == values[:, k]
    columns = torch.sort(columns[:, :k], dim=1).values
    values, order = torch.sort(scores.gather(1, columns), dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    if shared.any():
        best, at = torch.sort(scores[shared], dim=1, descending=True, stable=True)
        values[shared], columns[shared] = best[:, :k], at[:, :k]
    return values, columns
