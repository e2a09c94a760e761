"""Seeds drawn as neighbourhoods of passages, so that the queries written for them have candidates in common.

A passage is read once for all the queries of a part that it is a candidate of (``score.blocks``). Queries of seeds
drawn one by one from a large corpus share few candidates; those of neighbouring seeds share many. Neighbours are found
by their words, with the cosine of TF-IDF vectors, and not by the embedder: the draw then needs no model, comes before
the corpus is embedded, and leaves attempts valid when the embedder is changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gecko_core.randomness import generator
from gecko_core.text_words import text_words
from gecko_fret.corpus.passages import Corpus

#: Words are told apart by hashes of so many values: of a passage's hundred, few meet another one by chance.
_WORDS = 2**18
#: A word that is in more passages than this share says nothing of what a passage is about.
_COMMON = 0.2
_CHUNK_PASSAGES, _CHUNK_COSINES = 4096, 2**24


def gather(corpus: Corpus, drawn: Sequence[int], size: int, seed: int) -> list[int]:
    """Replace most of a draw by neighbours of the rest.

    Within each source the drawn passages in their order become centres of neighbourhoods, until there are as many
    passages as were drawn from it. A passage is in one neighbourhood only.

    Args:
        corpus: the passages.
        drawn: distinct rows of the corpus.
        size: passages of a neighbourhood; fewer where not enough others share words with its centre.
        seed: decides the order of the neighbourhoods.

    Returns:
        As many distinct rows, neighbourhood by neighbourhood, the neighbourhoods in random order.
    """
    groups: dict[str | None, list[int]] = {}
    for row in drawn:
        groups.setdefault(corpus.table["source"][row].as_py(), []).append(row)
    # Some of the first turn out to be neighbours of earlier ones: twice as many as are needed may become centres.
    centres = [row for rows in groups.values() for row in rows[: 2 * -(-len(rows) // size)]]
    near = dict(zip(centres, nearest(corpus, centres, 4 * size), strict=True))
    taken: set[int] = set()
    hoods: list[list[int]] = []
    for rows in groups.values():
        missing = len(rows)
        for centre in rows:
            if missing and centre not in taken:
                others = [row for row in near.get(centre, []) if row != centre and row not in taken]
                hood = [centre, *others][: min(size, missing)]
                taken.update(hood)
                hoods.append(hood)
                missing -= len(hood)
    order = generator("seeds-neighbourhoods", seed).permutation(len(hoods))
    return [row for number in order.tolist() for row in hoods[number]]


def nearest(corpus: Corpus, centres: Sequence[int], count: int) -> list[list[int]]:
    """The passages of the same source whose words are most like those of each centre.

    Args:
        corpus: the passages.
        centres: rows of the corpus.
        count: most passages of a centre, itself among them. Those that share no telling word with it are left out.

    Returns:
        Rows for every centre, best first, equal ones in the corpus' order.
    """
    seen = np.zeros(_WORDS)
    for _, counts in _chunks(corpus, _CHUNK_PASSAGES):
        seen += np.bincount(counts.indices, minlength=_WORDS)
    telling = np.log(len(corpus) / np.maximum(seen, 1)) * (seen <= max(2.0, _COMMON * len(corpus)))
    sources = np.array([source or "" for source in corpus.table["source"].to_pylist()])
    wanted = sources[list(centres)]
    vectors = _vectors(_counts([corpus[row].full_text for row in centres]), telling).T.tocsc()  # (words, centres)
    best, rows = np.zeros((2, 0, len(centres)))
    for start, counts in _chunks(corpus, max(1, min(_CHUNK_PASSAGES, _CHUNK_COSINES // max(1, len(centres))))):
        cosines = (_vectors(counts, telling) @ vectors).toarray()  # (passages, centres)
        here = np.arange(start, start + len(cosines))
        cosines[sources[here][:, None] != wanted] = 0.0
        best = np.concatenate([best, cosines])
        rows = np.concatenate([rows, np.broadcast_to(here[:, None], cosines.shape)])
        order = np.argsort(-best, axis=0, kind="stable")[:count]
        best, rows = np.take_along_axis(best, order, 0), np.take_along_axis(rows, order, 0)
    return [[int(row) for row in rows[best[:, column] > 0, column]] for column in range(len(centres))]


def _chunks(corpus: Corpus, size: int) -> Iterator[tuple[int, Any]]:
    """The number of the first passage and the word counts of every ``size`` passages."""
    texts: list[str] = []
    start = 0
    for passage in corpus:
        texts.append(passage.full_text)
        if len(texts) == size:
            yield start, _counts(texts)
            start, texts = start + size, []
    if texts:
        yield start, _counts(texts)


def _counts(texts: Sequence[str]) -> Any:
    """How often each word is in each text: a sparse matrix, (texts, words)."""
    from scipy.sparse import csr_matrix

    words: list[int] = []
    ends = [0]
    for text in texts:
        words += [zlib.crc32(word.encode("utf-8", "surrogatepass")) % _WORDS for word in text_words(text)]
        ends.append(len(words))
    counts = csr_matrix((np.ones(len(words)), words, ends), shape=(len(texts), _WORDS))
    counts.sum_duplicates()
    return counts


def _vectors(counts: Any, telling: np.ndarray) -> Any:
    """Rows of unit length: (1 + log count) times the word's weight."""
    vectors = counts.copy()
    vectors.data = (1 + np.log(counts.data)) * telling[counts.indices]
    norms = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel())
    vectors.data /= np.repeat(np.maximum(norms, 1e-12), np.diff(vectors.indptr))
    return vectors
