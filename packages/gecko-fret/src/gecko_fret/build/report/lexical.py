"""Lexical diversity of a set of short texts: type-token ratio, MTLD, distinct-n, repeated openings.

Libraries exist, but the kept ones bring pandas and plots with them (lexicalrichness) or are not kept any more
(lexical-diversity, taaled); the formulas are a few lines each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

__all__ = ["MTLD_THRESHOLD", "distinct", "mtld", "opening", "repeated_openings", "windowed_ttr"]

#: The type-token ratio that ends a factor, by McCarthy and Jarvis (2010).
MTLD_THRESHOLD = 0.72


def windowed_ttr(words: Sequence[str], window: int = 100) -> float:
    """Mean type-token ratio of consecutive windows of equal length (mean segmental TTR; Johnson 1944).

    The plain ratio falls with the length of a text; over equal windows texts of different length can be compared.

    Args:
        words: the text; what is left after the last whole window is not counted.
        window: words in a window.

    Returns:
        From 1 / ``window`` to 1; NaN where there is no whole window.
    """
    starts = range(0, len(words) - window + 1, window)
    ratios = [len(set(words[start : start + window])) / window for start in starts]
    return sum(ratios) / len(ratios) if ratios else float("nan")


def mtld(words: Sequence[str], threshold: float = MTLD_THRESHOLD) -> float:
    """Measure of textual lexical diversity (McCarthy and Jarvis 2010, Behavior Research Methods 42).

    The mean number of words until the type-token ratio has fallen to the threshold, mean of reading forwards and
    backwards. What is left after the last factor counts as the share (1 - TTR) / (1 - threshold) of one.

    Args:
        words: the text, 100 words or more for a number that means something.
        threshold: the type-token ratio that ends a factor.

    Returns:
        Words per factor, higher is more diverse; infinite where no word is repeated, NaN without words.
    """
    if not words:
        return float("nan")
    return (_one_way(words, threshold) + _one_way(words[::-1], threshold)) / 2


def _one_way(words: Sequence[str], threshold: float) -> float:
    factors, count, seen = 0.0, 0, set[str]()
    for word in words:
        count += 1
        seen.add(word)
        if len(seen) / count <= threshold:
            factors, count, seen = factors + 1, 0, set()
    if count:
        factors += (1 - len(seen) / count) / (1 - threshold)
    return len(words) / factors if factors else float("inf")


def distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    """Distinct-n: distinct runs of ``n`` words as a share of all runs (Li et al. 2016, arXiv 1510.03055).

    It falls with the number of words: compare sets of equal size.

    Args:
        texts: the words of every text; runs do not go across texts.
        n: words in a run.

    Returns:
        A share; NaN where no text has ``n`` words.
    """
    runs = [tuple(words[start : start + n]) for words in texts for start in range(len(words) - n + 1)]
    return len(set(runs)) / len(runs) if runs else float("nan")


def opening(words: Sequence[str], length: int) -> str:
    """The first words of a text."""
    return " ".join(words[:length])


def repeated_openings(texts: Sequence[Sequence[str]], length: int = 3) -> tuple[float, str, float]:
    """How many texts begin as another one does.

    Args:
        texts: the words of every text; those of fewer words than ``length`` open with all of them.
        length: words of an opening.

    Returns:
        Share of texts whose opening is that of another one, the most frequent opening (of equally frequent ones the
        first by alphabet), and its share; NaN, "" and NaN without texts.
    """
    if not texts:
        return float("nan"), "", float("nan")
    counts = Counter(opening(words, length) for words in texts)
    repeated = sum(count for count in counts.values() if count > 1)
    text, most = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return repeated / len(texts), text, most / len(texts)
