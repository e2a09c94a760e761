from gecko_fret.config import parse_config
from gecko_fret.cost import describe_cost, estimate


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


def test_description_counts_requests(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "some text"}\n' * 1 + '{"text": "more text"}\n')
    text = describe_cost(parse_config({"corpus": {"path": str(path)}, "generate": {"attempts": 3}}))
    assert "6 attempts from 2 seeds" in text
    assert "requests" in text
