"""Known items of four kinds, by which a run chooses the model that it saves; nothing trains on them.

- Titles: a title finds its passage. They come from the corpus (see ``gecko_train.data.holdout``).
- Queries: a query of FRet finds the passage that the judges found for it. Its rows are left out of training.
- Lists: the candidates of such a row, which the model should order as the judges do (also where no answer is known).
- Words: a few words drawn from a passage find it (see ``gecko_train.data.drawn_words``). The passage itself may be one
  that training reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gecko_core.io import find_data
from gecko_core.randomness import generator
from gecko_core.text_identity import text_id
from gecko_eval.data import RetrievalSet
from gecko_fret import Candidate, FretData, FretRow, load_fret
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import EvaluationConfig, FinetuneConfig, KnownItemsConfig
from gecko_train.data.drawn_words import draw_words
from gecko_train.data.holdout import few_are_none
from gecko_train.data.rows import Document


@dataclass(frozen=True)
class JudgedList:
    """A row of FRet that is set apart.

    Attributes:
        task: the task string.
        query: the query.
        answer: its answer among the documents of ``KnownItems``; None where no answer is known.
        candidates: its candidates among them.
        gains: how good the judges find each: its calibrated probability, or its fused score.
    """

    task: str
    query: str
    answer: int | None
    candidates: tuple[int, ...]
    gains: tuple[float, ...]


@dataclass(frozen=True)
class DrawnQuery:
    """A query of words drawn from a passage.

    Attributes:
        task: the task string.
        query: the words.
        answer: the passage among the documents of ``KnownItems``.
    """

    task: str
    query: str
    answer: int


@dataclass(frozen=True)
class KnownItems:
    """What models are chosen by.

    Attributes:
        titles: known items of the corpus.
        rows: of FRet, set apart.
        words: queries of drawn words.
        documents: the pool that the queries of ``rows`` and ``words`` search.
    """

    titles: RetrievalSet | None = None
    rows: tuple[JudgedList, ...] = ()
    words: tuple[DrawnQuery, ...] = ()
    documents: tuple[Document, ...] = field(default=(), repr=False)

    @property
    def queries(self) -> frozenset[int]:
        """Ids of the texts that no training row may have as its query."""
        return frozenset(text_id(row.query) for row in self.rows)

    def __bool__(self) -> bool:
        return self.titles is not None or bool(self.rows) or bool(self.words)


def known_items(
    config: FinetuneConfig,
    titles: RetrievalSet | None,
    fret: Path | None,
    seed: int,
    corpus: Corpus | None = None,
    task: str = EvaluationConfig().task,
) -> KnownItems:
    """Set rows apart of each FRet set that fine-tuning reads, and draw words from its passages, or the run's own.

    Args:
        config: the sets, and how many items of each kind.
        titles: items of the corpus.
        fret: the run's own FRet folder.
        seed: of the draw.
        corpus: the run's own passages, without those that are set apart.
        task: of the drawn words.

    Raises:
        DataError: a folder is not a FRet folder.
    """
    known = config.known_items
    folders = [find_data(entry.path) if entry.path else fret for entry in config.sets if entry.source == "fret"]
    rows: list[JudgedList] = []
    pool: dict[Document, int] = {}
    for folder in dict.fromkeys(folder for folder in folders if folder is not None):
        data = load_fret(folder)
        taken = _draw(data, known, seed)
        rows.extend(_judged(row, data, pool) for row in taken)
        if taken or known.words:
            _fill(pool, data.corpus, known.documents, seed)
    if corpus is not None and known.words:
        _fill(pool, corpus, known.documents, seed)
    words = draw_words([document.text for document in pool], known.words, seed)
    drawn = tuple(DrawnQuery(task, query, place) for place, query in words[: few_are_none(len(words))])
    return KnownItems(titles, tuple(rows), drawn, tuple(pool) if rows or drawn else ())


def _draw(data: FretData, config: KnownItemsConfig, seed: int) -> list[FretRow]:
    count = few_are_none(min(config.queries, int(len(data) * config.share)))
    order = generator("known rows", seed).permutation(len(data)).tolist()
    # Titles are searched apart, among passages that do not show theirs.
    chosen = itertools.islice((index for index in order if data[index].source != "titles"), count)
    return [data[index] for index in sorted(chosen)]


def _judged(row: FretRow, data: FretData, pool: dict[Document, int]) -> JudgedList:
    return JudgedList(
        row.task,
        row.query,
        None if row.positive is None else _place(row.positive, pool),
        tuple(_place(data.passage(candidate.id), pool) for candidate in row.candidates),
        _gains(row.candidates),
    )


def _gains(candidates: Sequence[Candidate]) -> tuple[float, ...]:
    probabilities = [candidate.probability for candidate in candidates if candidate.probability is not None]
    calibrated = len(probabilities) == len(candidates)
    return tuple(probabilities if calibrated else (float(candidate.fused) for candidate in candidates))


def _fill(pool: dict[Document, int], corpus: Corpus, size: int, seed: int) -> None:
    """Add passages in random order until the pool has this size."""
    for index in generator("known documents", seed).permutation(len(corpus)):
        if len(pool) >= size:
            return
        _place(corpus[int(index)], pool)


def _place(passage: Passage, pool: dict[Document, int]) -> int:
    return pool.setdefault(Document(passage.text, passage.title), len(pool))
