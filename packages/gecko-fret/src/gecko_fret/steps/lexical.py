"""Candidates by their words: BM25 finds passages that share a query's rare words and that the embedder may miss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gecko_fret.config import Bm25Config
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges.bm25 import split_words
from gecko_fret.prompting import prompt_text


class LexicalIndex:
    """BM25 over a corpus, by the library bm25s, with the words and settings of the judge ``bm25``.

    Args:
        corpus: the passages.
        config: section ``score.bm25``.

    Raises:
        ModelError: bm25s is not installed.
    """

    def __init__(self, corpus: Corpus, config: Bm25Config):
        words = split_words([prompt_text(passage) for passage in corpus], config)
        import bm25s

        self._config = config
        self._words = {word for split in words for word in split}
        self._index = bm25s.BM25(k1=config.k1, b=config.b, method="lucene")
        if self._words:
            self._index.index(words, show_progress=False)

    def search(self, queries: Sequence[str], count: int) -> list[list[int]]:
        """Rows of the ``count`` passages with the highest scores, best first, equal ones by row.

        A passage that shares no word with the query is not among them.
        """
        return [self._search(words, count) for words in split_words(queries, self._config)]

    def _search(self, words: Sequence[str], count: int) -> list[int]:
        known = [word for word in words if word in self._words]
        if not known:
            return []
        scores = np.asarray(self._index.get_scores(known))
        best = np.lexsort((np.arange(len(scores)), -scores))[:count]
        return [int(row) for row in best if scores[row] > 0]
