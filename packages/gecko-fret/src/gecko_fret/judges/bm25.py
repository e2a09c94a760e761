"""BM25: which rare words of the query the passage says, and how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from gecko_core.errors import ConfigError, ModelError
from gecko_core.lazy import import_without
from gecko_core.text_words import search_terms
from gecko_fret.config import Bm25Config, FretConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.judges.base import Batch, Judge, JudgeSetup
from gecko_fret.models import Models
from gecko_fret.prompting import prompt_text

_CHUNK = 4096
#: Part of fingerprints: how texts are split into words.
TERMS = "terms 2"


class Bm25(Judge):
    """BM25 in Lucene's variant (Robertson and Zaragoza 2009) with the corpus' document frequencies.

    Only the statistics are the corpus': a passage that lacks its title is scored as it is shown.
    """

    name = "bm25"

    def __init__(self, setup: JudgeSetup):
        super().__init__(setup)
        self._config = setup.config.score.bm25
        self._statistics = setup.models.keep(
            f"bm25 {setup.corpus.hash} {self._config.model_dump_json()}",
            lambda: Statistics.of(setup.corpus, self._config),
        )

    def judge(self, batch: Batch) -> Sequence[float]:
        """The score of every pair, 0 where no word is shared."""
        texts = [prompt_text(pair.passage) for pair in batch.pairs]
        words = split_words([*texts, *(pair.query for pair in batch.pairs)], self._config)
        half = len(texts)
        return [
            self._statistics.score(query, passage, self._config)
            for passage, query in zip(words[:half], words[half:], strict=True)
        ]

    @classmethod
    def check(cls, config: FretConfig) -> None:
        """The library is there and knows the language."""
        split_words([""], config.score.bm25)

    @classmethod
    def fingerprint(cls, config: FretConfig, models: Models) -> list[Any]:
        """Its settings, and how texts are split; the corpus is part of every fingerprint."""
        return [config.score.bm25.model_dump(), TERMS]


class Statistics:
    """What BM25 knows of a corpus.

    Args:
        documents: number of passages.
        words: number of words in all of them.
        frequencies: passages that have a word.
    """

    def __init__(self, documents: int, words: int, frequencies: Counter[str]):
        self._documents, self._frequencies = documents, frequencies
        self._mean_length = max(words / max(documents, 1), 1.0)

    @classmethod
    def of(cls, corpus: Corpus, config: Bm25Config) -> Statistics:
        """Count the words of a corpus."""
        words, frequencies = 0, Counter[str]()
        for chunk in _chunks(prompt_text(passage) for passage in corpus):
            for split in split_words(chunk, config):
                words += len(split)
                frequencies.update(set(split))
        return cls(len(corpus), words, frequencies)

    def score(self, query: Sequence[str], passage: Sequence[str], config: Bm25Config) -> float:
        """Sum over the query's words of idf * tf / (tf + k1 * (1 - b + b * length / mean length))."""
        counts = Counter(passage)
        norm = config.k1 * (1 - config.b + config.b * len(passage) / self._mean_length)
        return sum(self._idf(word) * counts[word] / (counts[word] + norm) for word in query if word in counts)

    def _idf(self, word: str) -> float:
        frequency = self._frequencies[word]
        return math.log(1 + (self._documents - frequency + 0.5) / (frequency + 0.5))


def split_words(texts: Sequence[str], config: Bm25Config) -> list[list[str]]:
    """The words of each text without stop words, see :func:`~gecko_core.text_words.search_terms`.

    Raises:
        ModelError: bm25s is not installed.
        ConfigError: it has no stop words of the language.
    """
    try:
        bm25s = import_without("bm25s", "jax")
    except ImportError:
        raise ModelError("judge bm25 needs bm25s; pip install 'gecko-fret[bm25]'") from None
    try:
        stop_words: Any = config.stop_words or []
        # bm25s knows the stop words; its own pattern loses the vowel signs of Indic scripts and finds no Chinese words.
        split = bm25s.tokenize(
            [" ".join(search_terms(text)) for text in texts],
            token_pattern=r"\S+",
            stopwords=stop_words,
            return_ids=False,
            show_progress=False,
        )
    except ValueError:
        raise ConfigError(
            f"score.bm25.stop_words: bm25s knows no language {config.stop_words!r}; use another one, or null"
        ) from None
    return [[word for word in words if word] for words in split]


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(texts)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
