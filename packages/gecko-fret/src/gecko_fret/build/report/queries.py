"""The queries of a build that the report speaks of, with where each is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gecko_core.randomness import generator
from gecko_fret.build.report.base import ReportData
from gecko_fret.steps import FILTER

#: The source whose queries an LLM wrote, and that whose queries users wrote.
WRITTEN, USERS = "llm", "log"


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A query that passed the filter: text, source (of ``generate.sources``), kind, and its passage if it has one."""

    text: str
    source: str
    kind: str
    seed_id: str | None


def filtered_queries(data: ReportData) -> list[ReportQuery]:
    """All queries that passed the filter, in the order of the folder."""
    parts = data.workspace.parts(FILTER)
    queries: list[ReportQuery] = []
    for number in parts.numbers():
        table = parts.table(number)  # rows would lack the source, which is an optional column
        named = "source" in table.schema.names
        sources = table["source"].to_pylist() if named else [WRITTEN] * len(table)
        columns = (table[name].to_pylist() for name in ("query", "kind", "seed_id"))
        for text, kind, seed_id, source in zip(*columns, sources, strict=True):
            queries.append(ReportQuery(text, source, kind, seed_id))
    return queries


def drawn(texts: Sequence[str], most: int, *name: object) -> list[int]:
    """Places of at most ``most`` texts in random order, decided by ``name``."""
    return [int(place) for place in generator(*name).permutation(len(texts))[:most]]
