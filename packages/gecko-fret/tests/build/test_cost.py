import json

import pytest

from gecko_core.errors import DataError
from gecko_fret.build.cost import Shares, cost_of_rows, describe_cost, estimate, measured_seconds
from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage

MANIFEST = {
    "format": 1,
    "complete": True,
    "counts": {"attempts": 200, "queries": 100, "retrieved": 100, "scored_pairs": 400, "rows": 25},
    "rejects": {"generate": {"length": 100}, "retrieve": {"seed_not_found": 50}, "mine": {"contaminated": 25}},
    "tokens": {"write": {"prompt_tokens": 20_000, "generated_tokens": 4000}, "score": {"prompt_tokens": 120_000}},
    "stages": {"write": {"seconds": 100.0}, "score": {"seconds": 200.0}},
    "config": {"score": {"mode": "separate"}},
}


TWO = Corpus([Passage("a", None, "some text"), Passage("b", None, "more text")])


def test_cost_grows_with_seeds_and_candidates():
    small = estimate(parse_config({"generate": {"seeds": 100}}), 1000, 600)
    large = estimate(parse_config({"generate": {"seeds": 200}}), 1000, 600)
    assert small.attempts == 200
    assert large.read_scoring == 2 * small.read_scoring
    assert large.seconds(1000, 100) == 2 * small.seconds(1000, 100)
    assert estimate(parse_config({"generate": {"seeds": None}}), 50, 600).attempts == 100


def test_joint_scoring_reads_about_half():
    separate = estimate(parse_config({}), 1000, 600)
    joint = estimate(parse_config({"score": {"mode": "joint"}}), 1000, 600)
    assert (separate.passes, joint.passes) == (2, 1)
    assert joint.read_scoring * 2 == separate.read_scoring


def test_long_passages_cost_what_is_read_of_them():
    config = parse_config({"score": {"passage_tokens": 100}, "generate": {"passage_tokens": 100}})
    assert estimate(config, 10, 10_000) == estimate(config, 10, 400)


def test_shares_are_those_that_a_build_has_counted():
    shares = Shares.from_manifest(MANIFEST)
    assert (shares.accepted, shares.kept, shares.rows) == (0.5, 0.5, 0.5)
    assert (shares.read_per_attempt, shares.read_per_pair, shares.pairs_per_query) == (100, 300, 8)
    config = parse_config({"generate": {"seeds": 50, "attempts": 4}, "retrieve": {"candidates": 16}})
    cost = estimate(config, 1000, 600, shares)
    assert (cost.attempts, cost.rows, cost.pairs) == (200, 25, 800)
    assert cost.read_scoring == 2 * 120_000
    assert measured_seconds(cost, shares) == 100 + 400


def test_a_million_rows_cost_what_their_share_of_the_build_did():
    million = cost_of_rows(1e6, Shares.from_manifest(MANIFEST))
    assert million.rows == 1e6
    assert million.attempts == 8e6
    assert million.read_scoring == 120_000 * 1e6 / 25


def test_description_counts_requests():
    text = describe_cost(parse_config({"generate": {"attempts": 3}}), TWO)
    assert "6 attempts from 2 seeds" in text
    assert "requests  at most 30\n" in text  # 6 written, 12 pairs scored twice


def test_description_by_an_earlier_build(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    text = describe_cost(parse_config({"generate": {"attempts": 3}}), TWO, tmp_path)
    assert "rows      about 1\n" in text
    assert "a million rows like those: 8e+06 attempts" in text


def test_an_unfinished_build_gives_no_shares(tmp_path):
    for content in (None, json.dumps(MANIFEST | {"complete": False})):
        if content:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(DataError, match="holds no finished build"):
            Shares.of(tmp_path)
