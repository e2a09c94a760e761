from dataclasses import replace

import numpy as np
import pytest

from gecko_fret.config import Bm25Config, RetrieveConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.filter import Query
from gecko_fret.steps.index import ExactIndex
from gecko_fret.steps.lexical import LexicalIndex
from gecko_fret.steps.plan import Measured
from gecko_fret.steps.retrieve import RETRIEVE, Retrieve, passes_round_trip


@pytest.fixture
def retrieve(small_corpus, fake_embedder):
    def retrieve(rows, embedder=None, **settings):
        embedder = embedder or fake_embedder()
        index = ExactIndex([embedder.encode_documents(small_corpus.texts, small_corpus.titles)])
        config = RetrieveConfig(**({"candidates": 5} | settings))
        return Retrieve(small_corpus, embedder, index, config, 1024)(rows)

    return retrieve


def row(identifier, seed, query, task="search result"):
    return Query(identifier, seed, 0, task, task, query, "writer", -1.0)


def test_seed_rank_is_its_place_or_null(retrieve):
    own, foreign = "subject3word1 subject3word2 subject3word5", "subject9word1 subject9word2 subject9word4"
    result = retrieve([row("a", "doc-03", own), row("b", "doc-03", foreign)])
    first, second = result.rows
    assert first.seed_rank == 1
    assert first.candidate_ids[0] == "doc-03"
    assert second.candidate_ids[0] == "doc-09"
    assert second.seed_rank in (None, *range(2, 6))
    assert first.similarities == sorted(first.similarities, reverse=True)
    assert len(first.candidate_ids) == 5


def test_failed_round_trips_are_kept_and_listed(retrieve):
    foreign = row("b", "doc-03", "subject9word1 subject9word2 subject9word4 subject9word7")
    result = retrieve([foreign], seed_top_k=1)
    assert len(result.rows) == 1
    assert [(r.stage, r.reason, r.id) for r in result.rejects] == [("retrieve", "seed_not_found", "b")]
    assert retrieve([foreign], seed_top_k=None).rejects == []


def test_a_title_is_compared_with_passages_that_do_not_show_theirs(small_corpus, fake_embedder):
    titled = Corpus([replace(p, title=f"{' '.join(p.text.split()[:3])} number") for p in small_corpus])
    title = titled.get("doc-03").title
    index = ExactIndex([fake_embedder().encode_documents(titled.texts, titled.titles)])
    search = Retrieve(titled, fake_embedder(), index, RetrieveConfig(candidates=5), 1024)
    shown, hidden = (
        search([replace(row("a", "doc-03", title), source=source)]).rows[0] for source in ("llm", "titles")
    )
    assert sorted(shown.candidate_ids) == sorted(hidden.candidate_ids)
    assert (shown.seed_rank, hidden.seed_rank) == (1, hidden.candidate_ids.index("doc-03") + 1)
    vectors = fake_embedder().encode_documents([small_corpus.get(name).text for name in hidden.candidate_ids])
    expected = vectors @ fake_embedder().encode_queries([title])[0]
    np.testing.assert_allclose(hidden.similarities, expected, atol=1e-6)
    assert hidden.similarities == sorted(hidden.similarities, reverse=True)


def test_a_query_without_a_seed_has_no_round_trip(retrieve):
    result = retrieve([row("log:1", None, "subject9word1 subject9word2")], seed_top_k=1)
    assert result.rejects == []
    assert (result.rows[0].seed_rank, result.rows[0].candidate_ids[0]) == (None, "doc-09")


def test_queries_are_encoded_with_their_own_task(retrieve, fake_embedder):
    calls = []

    class Spy(fake_embedder):
        def encode_queries(self, texts, task="search result", **options):
            calls.append((task, list(texts)))
            return super().encode_queries(texts, task)

    rows = [
        row("a", "doc-01", "one", "fact checking"),
        row("b", "doc-02", "two"),
        row("c", "doc-03", "three", "fact checking"),
    ]
    result = retrieve(rows, embedder=Spy())
    assert calls == [("fact checking", ["one", "three"]), ("search result", ["two"])]
    assert [r.query_id for r in result.rows] == ["a", "b", "c"]
    assert retrieve([]).rows == []


def test_round_trip_rule():
    assert passes_round_trip(4, 4)
    assert not passes_round_trip(5, 4)
    assert not passes_round_trip(None, 4)
    assert passes_round_trip(None, None)


def test_similarities_are_inner_products(retrieve, small_corpus, fake_embedder):
    query = "subject3word1 water people"
    (result,) = retrieve([row("a", "doc-03", query)]).rows
    embedder = fake_embedder()
    passage = small_corpus.get(result.candidate_ids[0])
    expected = embedder.encode_queries([query])[0] @ embedder.encode_documents([passage.text], [passage.title])[0]
    assert result.similarities[0] == pytest.approx(float(np.float32(expected)), abs=1e-6)


def test_queries_that_failed_the_round_trip_did_not_pass():
    measured = Measured({"retrieved": 10}, {"retrieve": {"seed_not_found": 3}}, {}, {}, {})
    assert RETRIEVE.passed(measured) == 7


def test_bm25_adds_passages_that_the_embedder_did_not_find(small_corpus, fake_embedder):
    pytest.importorskip("bm25s")
    embedder, query = fake_embedder(), "subject3word1 subject5word2 subject7word3"
    vectors = embedder.encode_documents(small_corpus.texts, small_corpus.titles)
    lexical = LexicalIndex(small_corpus, Bm25Config()), [vectors[:15], vectors[15:]]
    for count in (1, 9):
        config = RetrieveConfig(candidates=2, seed_top_k=None, bm25=count)
        step = Retrieve(small_corpus, embedder, ExactIndex([vectors]), config, None, lexical)
        (found,) = step([row("a", "doc-07", query)]).rows
        near, further = found.candidate_ids[:2], found.candidate_ids[2:]
        assert not set(near) & set(further)
        assert 1 <= len(further) <= count
        values = found.similarities[2:]
        assert values == sorted(values, reverse=True)
        for identifier, value in zip(further, values, strict=True):
            vector = vectors[small_corpus.row(identifier)]
            assert value == pytest.approx(float(vector @ embedder.encode_queries([query])[0]), abs=1e-6)
    assert {"doc-03", "doc-05", "doc-07"} <= set(found.candidate_ids)
