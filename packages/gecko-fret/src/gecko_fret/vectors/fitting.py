"""The weights of fields, fitted on queries whose document is known without labels.

A sentence is cut out of a passage: it is a query, and the document whose passage lacks it is the answer. The weights
make the answers likely in a conditional logit over documents (McFadden 1974), by the similarities themselves:

    P(d | q) = exp(b_c max_i s(q, c_i) + sum_f b_f s(q, e_f)) / sum over the documents, b >= 0, w_f = b_f / b_c

The documents are those nearest to the query by any field, and the answer. A written query of the answer that repeats
the sentence is left out, or the LLM, which had read it, would vouch for itself. Weights are kept where they raise the
mean reciprocal rank of answers that they were not fitted on beyond chance (paired bootstrap, 95%); else all are 0, and
the vectors are those of the chunks.

Titles are no queries here: as a query a title is its own field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gecko_core.fields import FIELDS, Missing
from gecko_core.randomness import generator
from gecko_core.search import BLOCK, TopK
from gecko_core.text_words import text_words
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges.fusion import maximise, reciprocal_rank
from gecko_fret.steps.known_items import sentences
from gecko_fret.vectors.encoded import ENCODED, EncodedFields

if TYPE_CHECKING:
    from gecko_core import Gecko

#: Fewest items that weights are fitted on; a corpus that gives fewer gets weights of 0.
FEWEST_ITEMS = 16
#: No field weighs more than this many chunks: the largest published weight is 1.
MOST = 2.0

_NEAREST = 50  # documents by each field
_FOLDS = 5
_RIDGE = 1e-3  # keeps the fit unique where two fields say the same; 1% of what 200 items say of one
_UNIT = 0.05  # similarities are read in units of this size, about the spread of the nearest
_REPEATS = 0.5  # share of a query's words that the sentence has
_DECIMALS = 3
_SAMPLES = 2000


@dataclass(frozen=True)
class FittedWeights:
    """Weights, and what they are worth on the items.

    Attributes:
        weights: by field.
        items: number of items.
        mrr: mean reciprocal rank of the answers by the chunks alone.
        mrr_fitted: by weights that were fitted without the item's fold.
    """

    weights: dict[str, float]
    items: int
    mrr: float
    mrr_fitted: float


@dataclass(frozen=True)
class _Item:
    """Similarities (N, 4) to documents by their best chunk, title, chunks and queries; and the answer's row."""

    table: np.ndarray
    answer: int


def fit_weights(
    model: Gecko,
    encoded: EncodedFields,
    dim: int,
    task: str,
    *,
    items: int = 200,
    missing: Missing = "chunks",
    seed: int = 0,
) -> FittedWeights:
    """Fit the weights of the fields.

    Args:
        model: the embedder.
        encoded: the vectors of the documents.
        dim: width of the vectors that the weights are for.
        task: of the queries.
        items: how many sentences to cut out.
        missing: what stands in for a field that a document lacks, see :func:`gecko_core.fields.combine`.
        seed: of drawing the sentences and of the folds.
    """
    lines = sentences(_passages(encoded), items, seed)
    names = [field for field in FIELDS if _differs(encoded, field)]
    none = dict.fromkeys(FIELDS, 0.0)
    if len(lines) < FEWEST_ITEMS or not names:
        return FittedWeights(none, len(lines), float("nan"), float("nan"))
    columns = [0, *(1 + FIELDS.index(name) for name in names)]
    tables = [
        _Item(item.table[:, columns] / _UNIT, item.answer)
        for item in _Items(model, encoded, dim, task, missing).of(lines)
    ]
    plain = np.array([reciprocal_rank(item.table[:, 0], item.answer) for item in tables])
    held_out = np.zeros(len(tables))
    order = generator("field weights", "folds", seed).permutation(len(tables))
    for fold in np.array_split(order, _FOLDS):
        rest = [tables[number] for number in order if number not in set(fold.tolist())]
        ratios = _ratios(rest)
        for number in fold:
            item = tables[number]
            held_out[number] = reciprocal_rank(item.table @ ratios, item.answer)
    mrr, mrr_fitted = float(plain.mean()), float(held_out.mean())
    draws = generator("field weights", "gain", seed).integers(len(tables), size=(_SAMPLES, len(tables)))
    if np.quantile((held_out - plain)[draws].mean(1), 0.05) <= 0:
        return FittedWeights(none, len(tables), mrr, mrr_fitted)
    fitted = [round(float(value), _DECIMALS) for value in _ratios(tables)[1:]]
    return FittedWeights(none | dict(zip(names, fitted, strict=True)), len(tables), mrr, mrr_fitted)


def _ratios(items: Sequence[_Item]) -> np.ndarray:
    """(1, w_f, ...) of the likeliest answers."""
    width = items[0].table.shape[1]
    found = maximise([item.table for item in items], [item.answer for item in items], _RIDGE, np.zeros(width))
    return np.concatenate([[1.0], np.minimum(found[1:] / max(found[0], 1e-9), MOST)])


def _passages(encoded: EncodedFields) -> Corpus:
    """The chunks as a corpus, their rows as ids."""
    chunks = (
        (text, title)
        for document in encoded.texts.values()
        for text, title in zip(document.chunks, document.titles, strict=True)
    )
    return Corpus(Passage(str(row), title, text) for row, (text, title) in enumerate(chunks))


def _differs(encoded: EncodedFields, field: str) -> bool:
    """Whether a field says anything that the best chunk does not: the mean of a single chunk is the chunk."""
    if field != "chunks":
        return len(encoded.documents[field]) > 0
    return len(encoded.documents[field]) > len(encoded.texts)


class _Items:
    """Makes the similarities of items."""

    def __init__(self, model: Gecko, encoded: EncodedFields, dim: int, task: str, missing: Missing):
        self._model, self._encoded, self._dim, self._task, self._missing = model, encoded, dim, task, missing
        self._names = list(encoded.texts)

    def of(self, lines: Sequence[tuple[str, Passage]]) -> Iterator[_Item]:
        """The items of these sentences and the passages without them, which have rows of chunks as ids."""
        cut = [passage for _, passage in lines]
        queries = self._encode_queries([line for line, _ in lines])
        without = self._model.truncate(
            self._model.encode_documents([p.text for p in cut], [p.title for p in cut]), self._dim
        )
        nearest = [self._nearest(queries, field) for field in ENCODED if len(self._encoded.documents[field])]
        for place, (line, passage) in enumerate(lines):
            row = int(passage.id)
            answer = int(self._encoded.documents["chunks"][row])
            others = np.unique(np.concatenate([documents[place] for documents in nearest]))
            documents = [answer, *(number for number in others.tolist() if number != answer)]
            query = queries[place].astype(np.float64)
            table = [self._similarities(query, number) for number in documents[1:]]
            own = self._similarities(query, answer, row, without[place], line)
            yield _Item(np.array([own, *table]), 0)

    def _encode_queries(self, texts: Sequence[str]) -> np.ndarray:
        return np.asarray(self._model.truncate(self._model.encode_queries(list(texts), task=self._task), self._dim))

    def _nearest(self, queries: np.ndarray, field: str) -> np.ndarray:
        """(Q, k) documents whose vector of a field is nearest, some of them several times."""
        encoded, count = self._encoded, len(self._encoded.documents[field])
        search = TopK(queries, min(_NEAREST, count))
        for start in range(0, count, BLOCK):
            search.add(encoded.at(field, slice(start, start + BLOCK), self._dim))
        return encoded.documents[field][search.result().rows]

    def _similarities(
        self, query: np.ndarray, number: int, row: int | None = None, without: np.ndarray | None = None, line: str = ""
    ) -> list[float]:
        """To the best chunk, and to the mean of title, chunks and queries, of a document.

        The answer's passage, at ``row``, is the one without the line, and queries that repeat the line do not count.
        """
        encoded = self._encoded
        rows = encoded.rows("chunks", number, number + 1)
        chunks = encoded.at("chunks", rows, self._dim)
        if row is not None and without is not None:
            chunks = chunks.copy()
            chunks[row - rows.start] = without
        similar = chunks.astype(np.float64) @ query
        mean = float(similar.mean())
        by_field = {"chunks": mean}
        for field in ("title", "queries"):
            rows = encoded.rows(field, number, number + 1)
            kept = np.arange(rows.start, rows.stop)
            if field == "queries" and line:
                written = encoded.texts[self._names[number]].queries
                kept = kept[[not _repeats(text, line) for text in written]] if len(kept) else kept
            by_field[field] = mean if self._missing == "chunks" else 0.0
            if len(kept):
                by_field[field] = float((encoded.at(field, kept, self._dim).astype(np.float64) @ query).mean())
        return [float(similar.max()), *(by_field[field] for field in FIELDS)]


def _repeats(query: str, line: str) -> bool:
    """Whether the line has half of the query's words or more."""
    words, there = text_words(query), set(text_words(line))
    return sum(word in there for word in words) >= _REPEATS * len(words)
