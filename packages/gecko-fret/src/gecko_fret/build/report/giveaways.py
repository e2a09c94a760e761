"""The words and openings by which two sets of texts differ."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gecko_core.text_words import text_words
from gecko_fret.build.report.lexical import opening

#: Standard errors that count as clear: hundreds of words are compared, and some differ by two by chance.
CLEAR = 3.0
#: Words of an opening: more are seldom frequent enough to compare.
OPENING = 2


@dataclass(frozen=True, slots=True)
class Giveaway:
    """What one set has more often.

    Attributes:
        what: ``word`` or ``opening``.
        text: it.
        written: share of written texts with it.
        real: share of real texts with it.
        z: difference of the shares in standard errors; above 0 where written texts have it more often.
    """

    what: str
    text: str
    written: float
    real: float
    z: float


def giveaways(written: Sequence[str], real: Sequence[str], most: int = 10) -> list[Giveaway]:
    """Words and openings that are clearly more frequent in one set, clearest first.

    By the number of texts that have one: the difference of the two shares over its standard error under no difference,
    whose square is Pearson's chi-squared.

    Args:
        written: texts of one set.
        real: those of the other.
        most: for words and openings each, and for each set.

    Returns:
        Words of ``written``, its openings, words of ``real``, its openings.
    """
    lists = [[text_words(text) for text in side] for side in (written, real)]
    words = _compared("word", *([set(line) for line in side] for side in lists))
    openings = _compared("opening", *([{opening(line, OPENING)} for line in side if line] for side in lists))
    found = []
    for sign in (1, -1):
        for entries in (words, openings):
            clear = [entry for entry in entries if sign * entry.z >= CLEAR]
            found += sorted(clear, key=lambda entry: (-abs(entry.z), entry.text))[:most]
    return found


def _compared(what: str, written: Sequence[Iterable[str]], real: Sequence[Iterable[str]]) -> list[Giveaway]:
    counts = [Counter(text for texts in side for text in texts) for side in (written, real)]
    totals = max(len(written), 1), max(len(real), 1)
    entries = []
    for text in sorted(counts[0].keys() | counts[1].keys()):
        a, b = counts[0][text], counts[1][text]
        pooled = (a + b) / sum(totals)
        error = math.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
        z = (a / totals[0] - b / totals[1]) / error if error else 0.0  # everything has it: no difference
        entries.append(Giveaway(what, text, a / totals[0], b / totals[1], z))
    return entries
