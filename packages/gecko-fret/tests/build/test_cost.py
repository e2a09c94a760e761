import json

import pytest

from gecko_core.errors import DataError
from gecko_core.io import format_seconds
from gecko_fret.build import cost
from gecko_fret.build.cost import describe_cost, estimate, read_measured, scale_to_rows
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Dropped, Passage
from gecko_fret.judges import JUDGES, Judge
from gecko_fret.steps.plan import Measured

MANIFEST = {
    "format": 1,
    "complete": True,
    "counts": {"attempts": 200, "queries": 100, "retrieved": 100, "scored_pairs": 400, "rows": 25},
    "rejects": {"generate": {"length": 100}, "retrieve": {"seed_not_found": 50}, "mine": {"contaminated": 25}},
    "tokens": {"write": {"prompt_tokens": 20_000, "generated_tokens": 4000}, "score": {"prompt_tokens": 120_000}},
    "stages": {"write": {"seconds": 100.0}, "score": {"seconds": 200.0}},
    "config": {"seed": 0, "generate": {}, "retrieve": {}, "score": {"mode": "separate"}},
    "corpus": {"name": "small", "passages": 100, "sha256": "0"},
    "models": {"llm": {"name": "l", "hash": "0"}, "embedder": {"name": "e", "hash": "0"}},
}


TWO = Corpus([Passage("a", None, "some text"), Passage("b", None, "more text")])


def paper(settings):
    return parse_config({"mine": {"fuse": "rrf"}} | settings)


def test_cost_grows_with_seeds_and_candidates():
    small = estimate(paper({"generate": {"seeds": 100}}), 1000, 600)
    large = estimate(paper({"generate": {"seeds": 200}}), 1000, 600)
    assert small.rows["attempts"] == 200
    assert large.costs["score"].read == 2 * small.costs["score"].read
    assert large.seconds(1000, 100) == 2 * small.seconds(1000, 100)
    assert estimate(paper({"generate": {"seeds": None}}), 50, 600).rows["attempts"] == 100


def test_grounding_asks_twice_more_and_other_sources_ask_nothing(tmp_path):
    plain = estimate(paper({"generate": {"seeds": 100}}), 1000, 600)
    grounded = estimate(paper({"generate": {"seeds": 100, "keep": "grounded"}}), 1000, 600)
    assert grounded.costs["write"].requests == 3 * plain.costs["write"].requests
    assert grounded.costs["write"].read > 2 * plain.costs["write"].read
    (tmp_path / "log.txt").write_text("one query\nanother query\n")
    more = {"seeds": 100, "sources": ["llm", "titles", "log"], "log": str(tmp_path / "log.txt")}
    assert estimate(paper({"generate": more}), 1000, 600).rows["queries"] == 200 + 100 + 2
    alone = estimate(paper({"generate": more | {"sources": ["log"]}}), 1000, 600)
    assert (alone.rows["attempts"], alone.rows["queries"], alone.costs["write"].written) == (0, 2, 0)


def test_joint_scoring_reads_about_half():
    separate = estimate(paper({}), 1000, 600)
    joint = estimate(paper({"score": {"mode": "joint"}}), 1000, 600)
    assert joint.costs["score"].requests * 2 == separate.costs["score"].requests
    assert joint.costs["score"].read * 2 == separate.costs["score"].read


def test_every_judge_adds_its_passes(monkeypatch):
    class Asking(Judge):
        name = "asking"

        def judge(self, batch):
            return [0.0] * len(batch.pairs)

        @classmethod
        def passes(cls, config):
            return 1

    monkeypatch.setitem(JUDGES, "asking", Asking)
    two, three = (
        estimate(paper({"score": {"judges": judges}}), 1000, 600).costs["score"]
        for judges in (["ql", "rc"], ["ql", "rc", "asking"])
    )
    assert three.requests * 2 == two.requests * 3
    measured = Measured.from_manifest(MANIFEST)
    plan = estimate(paper({"score": {"judges": ["ql", "rc", "asking"]}}), 1000, 600, measured)
    assert plan.costs["score"].read == pytest.approx(1.5 * plan.rows["scored_pairs"] / 400 * 120_000)


def test_long_passages_cost_what_is_read_of_them():
    config = paper({"score": {"passage_tokens": 100}, "generate": {"passage_tokens": 100}})
    assert estimate(config, 10, 10_000).read == estimate(config, 10, 400).read


def test_rates_are_those_that_a_build_has_measured():
    config = paper({"generate": {"seeds": 50, "attempts": 4}, "retrieve": {"candidates": 16}})
    plan = estimate(config, 1000, 600, Measured.from_manifest(MANIFEST))
    assert plan.rows == {
        "passages": 1000,
        "attempts": 200,
        "queries": 100,
        "retrieved": 100,
        "passed": 50,
        "scored_pairs": 800,
        "rows": 25,
    }
    assert (plan.costs["write"].read, plan.costs["write"].written) == (20_000, 4000)
    assert plan.costs["score"].read == 2 * 120_000
    assert plan.measured_seconds == 100 + 400


def test_a_million_rows_cost_the_build_times_their_number():
    million = scale_to_rows(1e6, Measured.from_manifest(MANIFEST))
    assert million.attempts == 8e6
    assert million.read == (20_000 + 120_000) * 1e6 / 25
    assert million.seconds == 300 * 1e6 / 25


def test_description_counts_requests():
    text = describe_cost(paper({"generate": {"attempts": 3}}), TWO)
    assert "6 attempts from 2 seeds" in text
    assert "requests  at most 30\n" in text  # 6 written, 12 pairs scored twice


def test_what_the_readers_left_out_is_told():
    assert "left out" not in describe_cost(paper({}), TWO)
    dropped = [Dropped(str(n), reason, "", "") for n, reason in enumerate(["hidden", "duplicate", "hidden"])]
    assert "\nleft out  1 duplicate, 2 hidden\n" in describe_cost(paper({}), Corpus(TWO, "two", dropped))


@pytest.mark.parametrize(("cores", "rates"), [(1, "500 and writes 100"), (4, "2000 and writes 400")])
def test_the_time_is_that_of_the_cores_that_there_are(monkeypatch, cores, rates):
    monkeypatch.setattr(cost, "usable_cores", lambda: cores)
    config = paper({})
    text = describe_cost(config, TWO)
    seconds = estimate(config, 2, 9).seconds(500 * cores, 100 * cores)
    named = "one core" if cores == 1 else "4 cores"
    assert f"at most {format_seconds(seconds)} of the LLM if it reads {rates} tokens/s, as SmolLM2-135M" in text
    assert f"on {named};" in text


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"threads": 2, "gpu": None}, "which had 2 cores where this process has 1\n"),
        ({"threads": 1, "gpu": None}, "at the speed of RUN\n"),
        ({"threads": 2, "gpu": "H100"}, "at the speed of RUN\n"),
        ({}, "at the speed of RUN\n"),
    ],
)
def test_an_earlier_build_with_other_cores_is_told(tmp_path, monkeypatch, environment, expected):
    monkeypatch.setattr(cost, "usable_cores", lambda: 1)
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"environment": environment}))
    assert expected in describe_cost(paper({}), TWO, tmp_path).replace(str(tmp_path), "RUN")


def test_description_by_an_earlier_build(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    text = describe_cost(paper({"generate": {"attempts": 3}}), TWO, tmp_path)
    assert "rows      about 1\n" in text
    assert "a million rows like those: 8e+06 attempts" in text


def test_an_unfinished_build_gives_no_rates(tmp_path):
    for content in (None, json.dumps(MANIFEST | {"complete": False})):
        if content:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DataError, match="holds no finished build"):
            read_measured(tmp_path)


@pytest.mark.parametrize(
    "nothing", [["attempts"], ["scored_pairs"], ["rows"], ["attempts", "queries", "retrieved", "scored_pairs", "rows"]]
)
def test_a_build_that_had_nothing_to_do_in_a_step(tmp_path, nothing):
    counts = MANIFEST["counts"] | dict.fromkeys(nothing, 0)
    rejects = {} if "retrieved" in nothing else MANIFEST["rejects"]
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"counts": counts, "rejects": rejects}))
    text = describe_cost(paper({"generate": {"attempts": 3}}), TWO, tmp_path)
    assert ("a million rows" in text) == ("rows" not in nothing)
    assert ("without write" in text) == ("attempts" in nothing)
    bound = describe_cost(paper({"generate": {"attempts": 3}}), TWO)
    if "attempts" in nothing:
        assert next(line for line in text.splitlines() if line.startswith("write")) in bound
    assert ("and score: nothing of it was done there" in text) == (len(nothing) > 1)


@pytest.mark.parametrize("lost", ["counts", "stages", "tokens", "config"])
def test_a_manifest_that_lacks_something(tmp_path, lost):
    manifest = {key: value for key, value in MANIFEST.items() if key != lost}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=lost):
        read_measured(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"counts": {"rows": 3}}))
    with pytest.raises(DataError, match=r"manifest\.json: lacks 'attempts'; take the rates of another build"):
        read_measured(tmp_path)


def test_a_build_whose_judges_asked_no_llm(tmp_path):
    config = MANIFEST["config"] | {"score": {"judges": ["similarity", "bm25"]}}
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST | {"config": config}))
    text = describe_cost(paper({}), TWO, tmp_path)
    assert "without score: nothing of it was done there" in text
    alike = parse_config({"score": {"judges": ["similarity", "bm25"]}})
    assert "without" not in describe_cost(alike, TWO, tmp_path)
