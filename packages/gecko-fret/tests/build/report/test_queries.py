import pytest

from gecko_fret.build.folder import Workspace
from gecko_fret.build.pipeline import build_fret
from gecko_fret.build.report.base import ReportData
from gecko_fret.build.report.queries import drawn, filtered_queries
from gecko_fret.config import parse_config
from gecko_fret.steps import FILTER


@pytest.mark.parametrize("sources", [["llm"], ["llm", "titles"]])
def test_all_queries_with_their_sources(tmp_path, small_corpus, make_models, sources):
    config = {"llm": {"model": "fake"}, "generate": {"seeds": 8, "max_copied": 1.0, "sources": sources}}
    config["mine"] = {"fuse": "rrf"}
    build_fret(parse_config(config), tmp_path, corpus=small_corpus, models=make_models())
    workspace = Workspace(tmp_path)
    queries = filtered_queries(ReportData(workspace, workspace.read_manifest()))
    assert [query.text for query in queries] == [query.query for query in workspace.parts(FILTER)]
    assert {query.source for query in queries} == set(sources)
    for query in queries:
        if query.source == "titles":
            assert query.text == small_corpus.get(query.seed_id).title


def test_draws_are_named():
    texts = [str(number) for number in range(100)]
    places = drawn(texts, 30, "a", 1)
    assert len(set(places)) == 30
    assert places == drawn(texts, 30, "a", 1) != drawn(texts, 30, "a", 2)
    assert sorted(drawn(texts, 1000, "a")) == list(range(100))
