import pytest

from gecko_fret.config import ScoreConfig
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.score import Score, expected_label

ROWS = [
    {"query_id": "a", "kind": "fact checking", "query": "subject1word1 is here", "candidate_ids": ["doc-01", "doc-02"]},
    {"query_id": "b", "kind": "search result", "query": "subject2word1\nwater", "candidate_ids": ["doc-02"]},
]


@pytest.mark.parametrize("mode", ["separate", "joint"])
def test_every_candidate_gets_both_scores(small_corpus, fake_llm, mode):
    stage = Score(small_corpus, fake_llm(), load_prompts("default"), ScoreConfig(mode=mode))
    result = stage(ROWS)
    assert [(r["query_id"], r["candidate_id"]) for r in result.rows] == [
        ("a", "doc-01"),
        ("a", "doc-02"),
        ("b", "doc-02"),
    ]
    assert all(len(r["rc"]) == 5 and sum(r["rc"]) == pytest.approx(1) for r in result.rows)
    assert all(r["ql"] < 0 for r in result.rows)
    assert result.counters["pairs"] == 3
    assert result.counters["prompt_tokens"] > 0


def test_modes_ask_the_llm_once_or_twice(small_corpus, fake_llm):
    class Spy(fake_llm):
        def score(self, requests, labels=()):
            self.calls = [
                *getattr(self, "calls", []),
                (len(requests), bool(labels), {bool(r.continuation) for r in requests}),
            ]
            return super().score(requests, labels)

    for mode, expected in (
        ("separate", [(3, False, {True}), (3, True, {False})]),
        ("joint", [(3, True, {True})]),
    ):
        llm = Spy()
        Score(small_corpus, llm, load_prompts("default"), ScoreConfig(mode=mode))(ROWS)
        assert llm.calls == expected


def test_passages_and_queries_are_cut(small_corpus, fake_llm):
    seen = []

    class Spy(fake_llm):
        def score(self, requests, labels=()):
            seen.extend(requests)
            return super().score(requests, labels)

    config = ScoreConfig(passage_tokens=8, query_tokens=4)
    row = ROWS[0] | {"query": "one two three four five six"}
    Score(small_corpus, Spy(), load_prompts("default"), config)([row])
    assert all(len(r.context.split("\n")[0].split()) == 9 for r in seen if r.continuation)
    assert {r.continuation for r in seen if r.continuation} == {" one two three four"}


def test_expected_label():
    assert expected_label([0, 0, 0, 0, 1]) == 4
    assert expected_label([0.2] * 5) == pytest.approx(2)
