from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_fret.config import MineConfig, parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps.filter import Query
from gecko_fret.steps.mine import MINE, Judged, JudgedQuery, Mine, fuse

NAMES = "abcdef"


def candidate(name, similarity, ql, label):
    return Judged(name, similarity, {"ql": ql, "rc": float(label)})


CORPUS = Corpus([Passage(n, None, f"text of {n}") for n in NAMES] + [Passage("a2", None, "Text of  A!")])
QUERY = Query("r", "b", 0, "search result", "search result", "q", "writer", -1.0)
ROW = JudgedQuery(
    QUERY,
    2,
    [
        candidate("a", 0.90, -1.0, 4),
        candidate("b", 0.80, -2.0, 3),
        candidate("a2", 0.70, -2.5, 2),
        candidate("c", 0.89, -3.0, 2),
        candidate("d", 0.50, -4.0, 1),
        candidate("e", 0.40, -5.0, 0),
    ],
)


def mine(row=ROW, **settings):
    return Mine(CORPUS, MineConfig(fuse="rrf", **settings), seed=0)([row])


def test_fused_score_is_the_sum_of_inverse_ranks():
    scored = [candidate(n, 0.5, q, r) for n, q, r in (("a", -1, 1), ("b", -2, 3), ("c", -3, 2))]
    fused = {r.id: (r.rank_ql, r.rank_rc, r.fused) for r in fuse(scored)}
    assert fused == {"a": (1, 3, 1 + 1 / 3), "b": (2, 1, 1.5), "c": (3, 2, 1 / 3 + 1 / 2)}
    assert [r.id for r in fuse(scored)] == ["b", "a", "c"]
    assert fuse(scored, k=60)[0].fused == pytest.approx(1 / 62 + 1 / 61)


def test_ties_go_to_query_likelihood_then_similarity_then_id():
    mirrored = [candidate("x", 0.1, -2, 3), candidate("y", 0.9, -1, 2)]
    assert [r.id for r in fuse(mirrored)] == ["y", "x"]
    equal = [candidate(n, s, -1, 2) for n, s in (("z", 0.5), ("y", 0.5), ("w", 0.6))]
    assert [(r.id, r.rank_ql, r.rank_rc) for r in fuse(equal)] == [("w", 1, 1), ("y", 2, 2), ("z", 3, 3)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(0, 4)), min_size=1, max_size=20), st.randoms())
def test_order_of_the_input_does_not_matter(values, random):
    scored = [candidate(f"{i:02d}", 0.5, q, r) for i, (q, r) in enumerate(values)]
    shuffled = scored[:]
    random.shuffle(shuffled)
    ranked = fuse(scored)
    assert ranked == fuse(shuffled)
    assert sorted(r.rank_ql for r in ranked) == sorted(r.rank_rc for r in ranked) == list(range(1, len(values) + 1))


def test_positive_is_the_first_and_negative_the_last():
    (row,) = mine().rows
    assert row.positive_id == "a"
    assert row.negative_ids == ["e"]
    assert [c.id for c in row.candidates] == ["a", "b", "a2", "c", "d", "e"]


def test_negatives_leave_out_seed_positive_equal_texts_and_look_alikes():
    (row,) = mine(negatives=10).rows
    assert row.negative_ids == ["e", "d"]  # c is too similar, b is the seed, a2 says the same as a
    (row,) = mine(negatives=10, max_similarity=None).rows
    assert row.negative_ids == ["e", "d", "c"]


def test_random_negatives_come_from_the_same_candidates():
    config = MineConfig(fuse="rrf", negative="random")
    drawn = {Mine(CORPUS, config, seed=s)([ROW]).rows[0].negative_ids[0] for s in range(20)}
    assert drawn == {"d", "e"}
    assert mine(negative="none").rows[0].negative_ids == []


def test_seed_can_be_the_positive():
    (row,) = mine(positive="seed").rows
    assert row.positive_id == "b"
    absent = JudgedQuery(replace(QUERY, seed_id="f"), None, ROW.candidates)
    assert [r.reason for r in mine(absent, positive="seed").rejects] == ["seed_absent"]


def test_filters_reject_with_a_name():
    assert [r.reason for r in mine(min_relevance=4).rejects] == []
    weak = replace(ROW, candidates=[candidate("a", 0.9, -1, 1), candidate("b", 0.8, -2, 0)])
    assert [(r.reason, r.stage) for r in mine(weak, min_relevance=2).rejects] == [("low_relevance", "mine")]
    assert [r.reason for r in mine(weak, require_negative=True).rejects] == ["no_negative"]
    assert mine(weak).rows[0].negative_ids == []


def test_contaminated_rows_are_rejected():
    stage = Mine(CORPUS, MineConfig(fuse="rrf"), 0, contaminated=lambda text: "seen" if text == "text of a" else None)
    assert [(r.reason, r.detail) for r in stage([ROW]).rejects] == [("contaminated", "seen")]


def test_every_judge_has_its_share_of_the_fused_score():
    judged = [Judged(n, 0.5, {"ql": q, "rc": r, "toy": t}) for n, q, r, t in (("a", -1, 3, 1), ("b", -2, 2, 9))]
    first, second = fuse(judged)
    assert (first.id, first.fused, second.fused) == ("a", 1 + 1 + 1 / 2, 1 / 2 + 1 / 2 + 1)
    assert first.scores == {"ql": -1, "rc": 3, "toy": 1}


def test_candidates_have_a_column_of_scores_from_format_two_on(tmp_path):
    (row,) = mine().rows
    paper = {"mine": {"fuse": "rrf"}}
    more = paper | {"score": {"judges": ["ql", "rc", "toy"]}}
    for config, version in ((parse_config(paper), 1), (parse_config(more), 2)):
        parts = MINE.parts(tmp_path / str(version), config)
        parts.write(0, [row])
        names = [field.name for field in parts.table(0).schema.field("candidates").type.value_type]
        assert ("scores" in names) == (version == 2)
        assert MINE.format(config) == version
        (read,) = parts.rows(0)
        assert read.candidates[0].scores == {"ql": -1.0, "rc": 4.0}
        assert read.negative_ids == row.negative_ids
