"""Written against real queries that the user gives: how well they are told apart, and by what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.errors import DataError
from gecko_core.text_identity import text_key
from gecko_fret.build.report.base import ReportData, ReportSection
from gecko_fret.build.report.classifier import (
    FEWEST_GROUPS,
    FOLDS,
    SURFACE,
    Side,
    grouped_folds,
    groups,
    surface,
    tell_apart,
)
from gecko_fret.build.report.giveaways import CLEAR, OPENING, giveaways
from gecko_fret.build.report.queries import USERS, WRITTEN, ReportQuery, drawn, filtered_queries
from gecko_fret.build.report.style import area

#: Most queries of a side.
MOST = 500
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Apart:
    """How well one set of a build's queries is told from real ones.

    Attributes:
        name: of the set: a source, or a kind of what the LLM wrote.
        written: its queries that were compared.
        real: as many real ones.
        areas: area under the ROC curve per fold, by features.
    """

    name: str
    written: list[str]
    real: list[str]
    areas: dict[str, np.ndarray]


def apart(data: ReportData) -> Iterable[ReportSection]:
    """AUC by set of queries and features, and what gives the first set away."""
    if data.real is None:
        return
    found, left = compare(data)
    rows, points = [], []
    for entry in found:
        for features, areas in entry.areas.items():
            low, mean, high = float(areas.min()), float(areas.mean()), float(areas.max())
            spread = f"{areas.std(ddof=1):.3f}"
            rows.append((entry.name, features, f"{mean:.3f}", spread, f"{low:.3f} to {high:.3f}", len(entry.written)))
            points.append((low, mean, high))
    note = (
        f"How well a classifier tells queries from real ones that it has not seen, {FOLDS} folds: AUC 0.5 means like "
        "real ones, 1.0 always told apart. Equal and nearly equal queries, and those of one passage, share a fold."
    )
    if left:
        note += f" Fewer than {FEWEST_GROUPS} of their own, not compared: {'; '.join(left)}."
    header = ("queries", "features", "AUC", "standard deviation", "folds", "of each side")
    yield ReportSection("Told from real queries", note, header, rows, intervals=points)
    yield from _what_differs(found[0])


def compare(data: ReportData) -> tuple[list[Apart], list[str]]:
    """Tell each set of a build's queries from the real ones: every source but the users' own, every kind of the LLM's.

    Args:
        data: with ``real`` and ``embedder``.

    Returns:
        What was compared, and the names of sets that are too small.

    Raises:
        DataError: too few real queries, or too few in every set of the build's.
        ConfigError: scikit-learn is not installed.
    """
    grouped_folds()  # whether scikit-learn is there, before anything is encoded
    seed = data.manifest["config"]["seed"]
    real = distinct_real(data.real or [], data.real_name)
    sets = _sets(filtered_queries(data))
    counts = {name: _group_count(queries) for name, queries in sets.items()}
    enough = [name for name, count in counts.items() if count >= FEWEST_GROUPS]
    if not enough:
        there = ", ".join(f"{counts[name]} ({name})" for name in counts if "," not in name) or "no"
        raise DataError(
            f"{data.workspace.out}: too few written queries to tell from real ones: of {there} passages or texts, "
            f"{FEWEST_GROUPS} are needed; build with more generate.seeds"
        )
    found = [_compared(data, name, sets[name], real, seed) for name in enough]
    return found, [name for name in counts if name not in enough]


def _compared(data: ReportData, name: str, queries: Sequence[ReportQuery], real: Sequence[str], seed: int) -> Apart:
    count = min(MOST, len(queries), len(real))
    chosen = [queries[place] for place in drawn([q.text for q in queries], count, "apart", seed, name)]
    others = [real[place] for place in drawn(real, count, "apart", seed, "real")]
    texts = [query.text for query in chosen]
    one = Side(texts, data.vectors(texts), [query.seed_id for query in chosen])
    other = Side(others, data.vectors(others), [None] * count)
    return Apart(name, texts, others, tell_apart(one, other, "apart-folds", seed, name))


def _sets(queries: Sequence[ReportQuery]) -> dict[str, list[ReportQuery]]:
    sets: dict[str, list[ReportQuery]] = {}
    for query in queries:
        if query.source != USERS:
            sets.setdefault(query.source, []).append(query)
    of_llm = sets.get(WRITTEN, [])
    kinds = sorted({query.kind for query in of_llm})
    if len(kinds) > 1:
        sets |= {f"{WRITTEN}, {kind}": [query for query in of_llm if query.kind == kind] for kind in kinds}
    return sets


def _group_count(queries: Sequence[ReportQuery]) -> int:
    return len(set(groups([q.text for q in queries], [q.seed_id for q in queries]).tolist())) if queries else 0


def distinct_real(real: Sequence[str], name: str) -> list[str]:
    """Real queries, equal ones once.

    Args:
        real: the queries.
        name: where they are from.

    Raises:
        DataError: they are too few to tell anything from them.
    """
    found = list({text_key(text): text for text in reversed(real)}.values())[::-1]
    count = len(set(groups(found, [None] * len(found)).tolist())) if found else 0
    if count < FEWEST_GROUPS:
        raise DataError(
            f"{name}: distinct queries (near duplicates count once): {count}; {FEWEST_GROUPS} are needed to tell "
            "written from real ones; add queries of your users, one a line"
        )
    return found


def _what_differs(entry: Apart) -> Iterable[ReportSection]:
    written, real = surface(entry.written), surface(entry.real)
    rows = [
        (name, f"{a.mean():.2f}", f"{b.mean():.2f}", f"{area(a, b):.3f}")
        for name, a, b in zip(SURFACE, written.T, real.T, strict=True)
    ]
    note = "Means, and the AUC of this one alone: above 0.5 where it is higher in written queries, below where lower."
    yield ReportSection("Surface of the queries", note, ("what", entry.name, "real", "AUC alone"), rows)
    found = giveaways(entry.written, entry.real, _SHOWN)
    note = f"Words and openings ({OPENING} words) whose share of queries differs by {CLEAR:g} standard errors (z) and "
    note += f"more; at most {_SHOWN} of each, first those that give the queries of {entry.name} away."
    shown = [(g.what, g.text, f"{g.written:.1%}", f"{g.real:.1%}", f"{g.z:+.1f}") for g in found]
    if not shown:
        note = "No word and no opening is clearly more frequent on one side."
    yield ReportSection("What gives them away", note, ("what", "text", entry.name, "real", "z"), shown)
