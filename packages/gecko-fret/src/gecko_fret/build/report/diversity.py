"""How diverse the queries are, by source, and how many of each kind the LLM wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.text_words import text_words
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.lexical import distinct, mtld, repeated_openings, windowed_ttr
from gecko_fret.build.report.queries import WRITTEN, drawn, filtered_queries

#: Fewest queries of a source that is shown, and most that are measured of it.
FEWEST, MOST = 50, 1000
#: Words of a window of the type-token ratio, and of an opening.
WINDOW, OPENING = 100, 3
REAL = "real"


@dataclass(frozen=True, slots=True)
class Diversity:
    """The measures of a set of queries.

    Attributes:
        words: per query.
        ttr: type-token ratio, mean over windows of 100 words.
        mtld: see :func:`~gecko_fret.build.report.lexical.mtld`.
        distinct: distinct-1, -2 and -3 of the first words.
        repeated: share of queries that open with the three words that another one opens with.
        opening: the most frequent opening.
        opening_share: its share.
        nearest: mean cosine of a query and the one nearest to it; None without vectors.
        pairs: mean cosine of all pairs; None without vectors.
    """

    words: float
    ttr: float
    mtld: float
    distinct: tuple[float, float, float]
    repeated: float
    opening: str
    opening_share: float
    nearest: float | None = None
    pairs: float | None = None


def measure(texts: Sequence[str], words: int | None = None, vectors: np.ndarray | None = None) -> Diversity:
    """The diversity of a set of queries, in their order.

    Args:
        texts: the queries.
        words: distinct-n is that of so many first words; None: of all.
        vectors: (n, D) of the queries, of unit length.
    """
    lists = [text_words(text) for text in texts]
    flat = [word for line in lists for word in line]
    first = _first_words(lists, len(flat) if words is None else words)
    repeated, opening, share = repeated_openings(lists, OPENING)
    nearest, pairs = (None, None) if vectors is None else self_similarity(vectors)
    ratios = distinct(first, 1), distinct(first, 2), distinct(first, 3)
    ttr = windowed_ttr(flat, WINDOW)
    return Diversity(len(flat) / max(len(lists), 1), ttr, mtld(flat), ratios, repeated, opening, share, nearest, pairs)


def self_similarity(vectors: np.ndarray) -> tuple[float, float]:
    """Mean cosine of each vector and its nearest other one, and of all pairs of two.

    Args:
        vectors: (n, D) of unit length, n at least 2.
    """
    exact = np.asarray(vectors, dtype=np.float64)
    cosines = exact @ exact.T
    count = len(cosines)
    pairs = (cosines.sum() - np.trace(cosines)) / (count * (count - 1))
    np.fill_diagonal(cosines, -np.inf)
    return float(cosines.max(axis=1).mean()), float(pairs)


def diversity(data: ReportData) -> Iterable[ReportSection]:
    """Measures of diversity by source, on as many queries of each."""
    sides = _sides(data)
    shown = {name: texts for name, texts in sides.items() if len(texts) >= FEWEST}
    if not shown:
        return
    count = min(MOST, *map(len, shown.values()))
    seed = data.manifest["config"]["seed"]
    taken = {
        name: [texts[place] for place in drawn(texts, count, "diversity", seed, name)] for name, texts in shown.items()
    }
    words = min(sum(len(text_words(text)) for text in texts) for texts in taken.values())
    embeds = data.embedder is not None
    found = {name: measure(texts, words, data.vectors(texts) if embeds else None) for name, texts in taken.items()}
    left = [name for name in sides if name not in shown]
    note = f"{count} queries of each source, drawn and in random order; distinct-n on the first {words} words of each."
    note += f" Fewer than {FEWEST}, not shown: {', '.join(left)}." if left else ""
    note += "" if embeds else " With --embed, gecko-fret report adds how near the queries are to each other."
    rows = [("queries", *(len(texts) for texts in shown.values())), *_rows(list(found.values()), embeds)]
    yield ReportSection("Diversity of the queries", note, ("what", *shown), rows)


def kinds(data: ReportData) -> Iterable[ReportSection]:
    """How many queries of each kind the LLM wrote."""
    counts = Counter(query.kind for query in filtered_queries(data) if query.source == WRITTEN)
    if not counts:
        return
    total = sum(counts.values())
    shares = np.array(list(counts.values())) / total
    effective = float(np.exp(-(shares * np.log(shares)).sum()))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(kind, count, f"{count / total:.1%}") for kind, count in ordered]
    note = f"Queries that the LLM wrote, by kind of task; as diverse as {effective:.1f} equally frequent kinds."
    yield ReportSection("Kinds of written queries", note, ("kind", "queries", "share"), rows, bar=1)


def _sides(data: ReportData) -> dict[str, list[str]]:
    sides: dict[str, list[str]] = {}
    for query in filtered_queries(data):
        sides.setdefault(query.source, []).append(query.text)
    order = data.manifest["config"]["generate"].get("sources", [WRITTEN])
    sides = {name: sides[name] for name in order if name in sides}
    return sides | ({REAL: list(data.real)} if data.real is not None else {})


def _first_words(lists: Sequence[Sequence[str]], count: int) -> list[Sequence[str]]:
    taken: list[Sequence[str]] = []
    for words in lists:
        if count <= 0:
            break
        taken.append(words[:count])
        count -= len(words)
    return taken


def _rows(found: Sequence[Diversity], embeds: bool) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = [
        ("words per query", *(f"{side.words:.1f}" for side in found)),
        (f"type-token ratio, windows of {WINDOW} words", *(f"{side.ttr:.3f}" for side in found)),
        ("MTLD", *(f"{side.mtld:.1f}" for side in found)),
        *((f"distinct-{n}", *(f"{side.distinct[n - 1]:.3f}" for side in found)) for n in (1, 2, 3)),
        (f"open as another does ({OPENING} words)", *(f"{side.repeated:.1%}" for side in found)),
        ("most frequent opening", *(f"{side.opening} ({side.opening_share:.1%})" for side in found)),
    ]
    if embeds:
        rows += [
            ("cosine of the nearest other query", *(f"{side.nearest:.3f}" for side in found)),
            ("cosine of two queries at random", *(f"{side.pairs:.3f}" for side in found)),
        ]
    return rows
