"""Queries of a few words drawn from a passage: known items in any language, as many as there are passages.

A simulated query of Azzopardi, de Rijke and Balog ("Building simulated queries for known-item topics", SIGIR 2007): its
words are drawn from one passage, rarer ones more often (their discriminative selection), and the passage is the answer.
Sentences and titles are found by a student that has never seen their language, for they share whole phrases with their
passage. Of a few single words, as a user types them, much less is found, and what training adds shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gecko_core.randomness import generator
from gecko_core.text_words import search_terms

FEWEST, MOST = 2, 6  # words of a query


def draw_words(texts: Sequence[str], count: int, seed: int) -> list[tuple[int, str]]:
    """Draw queries, at most one of each text.

    A text whose words are less than twice the query's gives none: its query would be most of it.

    Args:
        texts: of the passages that are searched.
        count: most queries.
        seed: of the draw.

    Returns:
        Place of the text and query, in the order of the texts. The query's 2 to 6 different words are drawn with
        probabilities that are proportional to ln(n / df), n being the number of texts, df of how many a word is one.
    """
    terms = [sorted(set(search_terms(text))) for text in texts]
    frequencies = Counter(term for of_text in terms for term in of_text)
    draws = generator("drawn words", seed)
    found: list[tuple[int, str]] = []
    for place in draws.permutation(len(texts)).tolist():
        if len(found) >= count:
            break
        length = int(draws.integers(FEWEST, MOST + 1))
        weights = np.log(len(texts) / np.array([frequencies[term] for term in terms[place]], dtype=np.float64))
        if np.count_nonzero(weights) >= 2 * length:
            drawn = draws.choice(len(weights), length, replace=False, p=weights / weights.sum())
            found.append((place, " ".join(terms[place][word] for word in drawn)))
    return sorted(found)
