from dataclasses import replace
from importlib import resources

import pytest
import yaml

from gecko_core.errors import BackendError, ConfigError
from gecko_fret.config import parse_config
from gecko_fret.judges import JUDGES, JudgeSetup
from gecko_fret.llm.protocol import Completion
from gecko_fret.models import Models
from gecko_fret.steps.filter import Query
from gecko_fret.steps.judging import Panel
from gecko_fret.steps.retrieve import Retrieved
from gecko_fret.steps.score import SCORE, Candidates, Score


def row(identifier, kind, query, candidates):
    retrieved = Retrieved(identifier, None, candidates, [0.5] * len(candidates))
    return Candidates(Query(identifier, "doc-09", 0, kind, kind, query, "writer", -1.0), retrieved)


ROWS = [
    row("a", "fact checking", "subject1word1 is here", ["doc-01", "doc-02"]),
    row("b", "search result", "subject2word1\nwater", ["doc-02"]),
]


def score(corpus, llm, rows=ROWS, **settings):
    config = parse_config({"llm": {"model": "given"}, "score": settings, "mine": {"fuse": "rrf"}})
    setup = JudgeSetup(config, Models(llms={"given": llm}), corpus)
    panel = Panel(setup, [JUDGES[name](setup) for name in config.score.all_judges])
    return Score(panel, corpus)(rows)


@pytest.mark.parametrize("mode", ["separate", "joint"])
def test_every_candidate_gets_both_scores(small_corpus, fake_llm, mode):
    result = score(small_corpus, fake_llm(), mode=mode)
    assert [(r.query_id, r.candidate_id) for r in result.rows] == [
        ("a", "doc-01"),
        ("a", "doc-02"),
        ("b", "doc-02"),
    ]
    assert all(len(r.judgements["rc"]) == 5 and sum(r.judgements["rc"]) == pytest.approx(1) for r in result.rows)
    assert all(r.judgements["ql"] < 0 for r in result.rows)
    assert result.counters["pairs"] == 3
    assert result.counters["prompt_tokens"] > 0


def test_modes_ask_the_llm_once_or_twice(small_corpus, fake_llm):
    class Spy(fake_llm):
        def score(self, requests, labels=(), **options):
            self.calls = [
                *getattr(self, "calls", []),
                (len(requests), bool(labels), {bool(r.continuation) for r in requests}),
            ]
            return super().score(requests, labels, **options)

    for mode, expected in (
        ("separate", [(3, False, {True}), (3, True, {False})]),
        ("joint", [(3, True, {True})]),
    ):
        llm = Spy()
        score(small_corpus, llm, mode=mode)
        assert llm.calls == expected


def test_passages_and_queries_are_cut(small_corpus, fake_llm):
    seen = []

    class Spy(fake_llm):
        def score(self, requests, labels=(), **options):
            seen.extend(requests)
            return super().score(requests, labels, **options)

    long = row("a", "fact checking", "one two three four five six", ["doc-01", "doc-02"])
    score(small_corpus, Spy(), [long], passage_tokens=8, query_tokens=4)
    assert all(len(r.context.split("\n")[0].split()) == 9 for r in seen if r.continuation)
    assert {r.continuation for r in seen if r.continuation} == {" one two three four"}


def test_what_judges_count_is_kept_with_the_part(small_corpus, fake_llm):
    class Silent(fake_llm):
        def generate(self, requests, sampling):
            return [Completion("", 0.0, 1, True) for _ in requests]

    result = score(small_corpus, Silent(), judges=["ql", "listwise"])
    assert result.counters["listwise_missing"] == 2
    assert set(result.counters) == {
        "pairs",
        "prompt_tokens",
        *(f"listwise_{what}" for what in ("missing", "dropped", "repaired")),
    }
    assert set(score(small_corpus, fake_llm()).counters) == {"pairs", "prompt_tokens"}


def test_columns_are_the_judges_whatever_their_order():
    names = ["query_id", "candidate_id", "ql", "rc"]
    assert SCORE.layout(parse_config({"mine": {"fuse": "rrf"}})).schema.names == names
    assert SCORE.layout(parse_config({"score": {"judges": ["rc", "ql"]}})).schema.names == names


@pytest.mark.parametrize("name", ["embedder", "cross-encoder"])
def test_judges_check_their_own_settings(name):
    with pytest.raises(ConfigError, match=f"{name} needs score"):
        SCORE.check(parse_config({"score": {"judges": [name]}}))


def test_prompts_of_judges_are_recorded():
    judges = {"score": {"judges": ["yes-no", "listwise"]}}
    assert set(SCORE.prompt_hashes(parse_config(judges))) == {"score", "score.yes_no", "score.listwise"}


def test_unknown_judges_and_joint_scoring_without_prompts_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"score.judges: no judge is called 'oracle'; there are ql, rc"):
        SCORE.check(parse_config({"score": {"judges": ["ql", "rc", "oracle"]}}))
    prompts = yaml.safe_load((resources.files("gecko_fret") / "prompts" / "default.yaml").read_text())
    del prompts["joint"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(prompts))
    config = parse_config({"score": {"prompt": str(tmp_path / "p.yaml"), "mode": "joint", "judges": ["ql", "rc"]}})
    with pytest.raises(ConfigError, match="has no 'joint' section"):
        SCORE.check(config)


def test_a_title_is_judged_against_passages_that_do_not_show_theirs(small_corpus, fake_llm):
    contexts = {}

    class Spy(fake_llm):
        def score(self, requests, labels=(), **options):
            contexts.setdefault(source, []).extend(request.context for request in requests)
            return super().score(requests, labels, **options)

    title = small_corpus.get("doc-01").title
    plain = row("a", "search result", title, ["doc-01", "doc-02"])
    for source in ("llm", "titles"):
        asked = Candidates(replace(plain.query, source=source), plain.retrieved)
        score(small_corpus, Spy(), [asked], judges=["ql"])
    assert title in contexts["llm"][0]
    assert not any(title in context for context in contexts["titles"])
    assert all(small_corpus.get("doc-01").text[:40] in contexts[source][0] for source in contexts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_judgement_that_is_no_number_ends_the_step(small_corpus, fake_llm, monkeypatch, value):
    monkeypatch.setattr(JUDGES["similarity"], "judge", lambda self, batch: [0.5] * (len(batch.pairs) - 1) + [value])
    with pytest.raises(
        BackendError, match=r"judge similarity: (nan|inf) of query 'b' and passage 'doc-02' is no number"
    ):
        score(small_corpus, fake_llm(), judges=["similarity"])
