from types import SimpleNamespace

import pytest

from gecko_fret.build.report import sections
from gecko_fret.build.report.queries import ReportQuery
from gecko_fret.build.report.sections import seed_ranks, survivors
from gecko_fret.steps import FILTER, MINE, RETRIEVE, WRITE

COUNTS = {WRITE: 40, FILTER: 20, RETRIEVE: 20, MINE: 10}


@pytest.mark.parametrize(
    ("sources", "counts", "shares"),
    [
        (["llm"], COUNTS, ["100.0%", "50.0%", "50.0%", "25.0%"]),
        (["llm", "log"], COUNTS, ["-", "100.0%", "100.0%", "50.0%"]),
        (["log"], COUNTS | {WRITE: 0}, ["-", "100.0%", "100.0%", "50.0%"]),
        (["llm"], dict.fromkeys(COUNTS, 0), ["0.0%"] * 4),
    ],
)
def test_shares_are_of_what_all_queries_have_gone_through(sources, counts, shares):
    config = {"retrieve": {"seed_top_k": None}, "generate": {"sources": sources}}
    [section] = survivors(SimpleNamespace(manifest={"config": config}, count=counts.get, rejects={}))
    assert [row[2] for row in section.rows] == shares
    assert ("share of the attempts" in section.note) == (sources == ["llm"])


def test_queries_of_a_log_have_no_seed_to_be_found(monkeypatch):
    """They counted as queries that do not find theirs, and as queries that do."""
    queries = [
        ReportQuery("a", "llm", "k", "p1"),
        ReportQuery("b", "llm", "k", "p2"),
        ReportQuery("c", "log", "k", None),
    ]
    monkeypatch.setattr(sections, "filtered_queries", lambda data: queries)
    retrieved = [SimpleNamespace(seed_rank=rank) for rank in (1, None, None)]
    [section] = seed_ranks(SimpleNamespace(workspace=SimpleNamespace(parts=lambda step: retrieved)))
    assert section.rows == [(1, 1, "50.0%"), ("not found", 1, "50.0%")]
    assert "all queries but 1 without a seed" in section.note
    config = {"retrieve": {"seed_top_k": 4}, "generate": {"sources": ["llm", "log"]}}
    [section] = survivors(SimpleNamespace(manifest={"config": config}, count=COUNTS.get, rejects={}))
    assert section.rows[2][0] == "queries with their seed in the top 4, or without one"
