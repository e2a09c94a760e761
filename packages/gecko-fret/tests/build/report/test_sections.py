from types import SimpleNamespace

import pytest

from gecko_fret.build.report.sections import survivors
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
