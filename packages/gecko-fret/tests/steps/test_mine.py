from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gecko_fret.config import MineConfig, parse_config
from gecko_fret.corpus.contamination import Contamination
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.judges.fusion import Fusion
from gecko_fret.steps.filter import Query
from gecko_fret.steps.mine import MINE, Judged, JudgedQuery, Mine, fuse, fuse_calibrated

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


@pytest.mark.parametrize("text", ["q", "text of a", "text of b"])
def test_rows_with_a_query_positive_or_seed_of_the_test_set_are_rejected(text):
    stage = Mine(CORPUS, MineConfig(fuse="rrf"), 0, Contamination([("the set", text)]))
    assert [(r.reason, r.detail) for r in stage([ROW]).rejects] == [("contaminated", "equals a text of the set")]


def test_passages_of_the_test_set_are_no_candidates():
    """They stayed as negatives and in the lists that a student learns from."""
    (whole,) = mine(negatives=3).rows
    assert set(whole.negative_ids) == {"d", "e"}
    contaminated = Contamination([("set", "text of d"), ("set", "text of f")])
    for (row,) in (
        Mine(CORPUS, MineConfig(fuse="rrf", negatives=3), 0, contaminated)([ROW]).rows,
        Mine(CORPUS, MineConfig(fuse="rrf", negatives=3, negative="random"), 0, contaminated)([ROW]).rows,
    ):
        assert row.negative_ids == ["e"]
        assert row.candidates == [candidate for candidate in whole.candidates if candidate.id != "d"]


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


def test_scores_that_an_earlier_version_stored_as_maps_are_read(tmp_path):
    (row,) = mine().rows
    parts = MINE.parts(tmp_path, parse_config({"score": {"judges": ["ql", "rc", "toy"]}}))
    parts.write(0, [row])
    table = parts.table(0)
    place = table.schema.get_field_index("candidates")
    fields = [
        field.with_type(pa.map_(pa.string(), pa.float32())) if field.name == "scores" else field
        for field in table.schema.field(place).type.value_type
    ]
    candidates = [
        [candidate | {"scores": [("rc", 1.0), ("ql", -2.0)]} for candidate in record["candidates"]]
        for record in table.to_pylist()
    ]
    as_maps = pa.array(candidates, pa.list_(pa.struct(fields)))
    pq.write_table(table.set_column(place, "candidates", as_maps), parts.path(0))
    (read,) = parts.rows(0)
    assert [candidate.scores for candidate in read.candidates] == [{"rc": 1.0, "ql": -2.0}] * len(row.candidates)


# -- calibrated fusion

FUSION = Fusion({"similarity": 1.0, "ql": 2.0, "coin": 0.0}, 1.0, 48)
JUDGED = JudgedQuery(
    QUERY,
    2,
    [
        Judged(name, similarity, {"similarity": similarity, "ql": ql})  # the coin was not asked
        for name, similarity, ql in (
            ("a", 0.90, -1.0),
            ("b", 0.85, -1.5),
            ("c", 0.60, -3.0),
            ("d", 0.50, -3.5),
            ("e", 0.40, -4.0),
        )
    ],
)


def mine_calibrated(row=JUDGED, fusion=FUSION, contaminated=None, **settings):
    return Mine(CORPUS, MineConfig(**settings), 0, contaminated, fusion)([row])


def test_probability_orders_the_candidates_and_sums_to_one():
    ranked = fuse_calibrated(JUDGED.candidates, FUSION)
    assert [c.id for c in ranked] == ["a", "b", "c", "d", "e"]
    assert sum(c.probability for c in ranked) == pytest.approx(1)
    assert all(c.fused == c.probability for c in ranked)
    first = ranked[0]
    assert (first.ql, first.rank_ql, first.rc, first.rank_rc) == (-1.0, 1, None, None)
    assert first.scores == {"similarity": 0.90, "ql": -1.0}


def test_equal_probabilities_are_ordered_by_similarity_then_id():
    equal = [Judged(n, s, {"ql": -1.0}) for n, s in (("z", 0.5), ("y", 0.5), ("w", 0.6))]
    assert [c.id for c in fuse_calibrated(equal, FUSION_OF_QL)] == ["w", "y", "z"]


FUSION_OF_QL = Fusion({"ql": 1.0}, 1.0, 48)


def test_positive_is_the_most_probable_negative_the_hardest_that_is_surely_none():
    (row,) = mine_calibrated(negatives=2, max_probability=0.1).rows
    assert row.positive_id == "a"
    assert row.negative_ids == ["c", "d"]  # b, the seed, is too probable
    below = row.candidates[2].probability
    (row,) = mine_calibrated(max_probability=below).rows  # strictly below
    assert row.negative_ids == ["d"]


def test_random_negatives_are_drawn_from_those_below_the_probability():
    drawn = {
        mine_calibrated(replace(JUDGED, query=replace(QUERY, id=f"r{i}")), negative="random", max_probability=0.1)
        .rows[0]
        .negative_ids[0]
        for i in range(40)
    }
    assert drawn == {"c", "d", "e"}


@pytest.mark.parametrize(
    ("settings", "reason", "detail"),
    [
        ({"min_probability": 0.99}, "low_probability", "of the positive is below 0.99"),
        ({"seed_rank": 1}, "seed_not_found", "rank 2 by the judges"),
        ({"positive": "seed", "min_probability": 0.9}, "low_probability", "of the positive is below 0.9"),
    ],
)
def test_a_query_without_an_answer_keeps_its_candidates_or_is_rejected(settings, reason, detail):
    (row,) = mine_calibrated(**settings).rows
    assert (row.positive_id, row.negative_ids) == (None, [])
    assert len(row.candidates) == 5
    result = mine_calibrated(unanswered="reject", **settings)
    assert not result.rows
    assert result.rejects[0].reason == reason
    assert detail in result.rejects[0].detail


def test_a_query_that_was_written_from_no_passage_is_judged_by_its_probability_alone():
    query = replace(QUERY, seed_id=None)
    (row,) = mine_calibrated(replace(JUDGED, query=query, seed_rank=None), seed_rank=1).rows
    assert (row.positive_id, row.seed_id) == ("a", None)


def test_contaminated_queries_are_rejected_answered_or_not():
    for changes in ({}, {"min_probability": 0.99}):
        result = mine_calibrated(contaminated=Contamination([("the test set", "q")]), **changes)
        assert [reject.reason for reject in result.rejects] == ["contaminated"]


def test_a_query_that_keeps_no_candidate_is_rejected():
    """It became a row that teaches nothing and has nothing to show."""
    texts = Contamination([("the test set", f"text of {name}") for name in "acde"])
    query = replace(JUDGED, query=replace(QUERY, seed_id=None), seed_rank=None)
    (row,) = mine_calibrated(query, contaminated=texts, min_probability=0.99).rows
    assert [candidate.id for candidate in row.candidates] == ["b"]
    texts = Contamination([("the test set", f"text of {name}") for name in "abcde"])
    result = mine_calibrated(query, contaminated=texts, min_probability=0.99)
    assert not result.rows
    assert [(reject.reason, reject.detail) for reject in result.rejects] == [
        ("contaminated", "every candidate is a passage of an evaluation set")
    ]


@pytest.mark.parametrize(("candidates", "least"), [(1, 0.75), (2, 0.75), (3, 0.5), (5, 0.3), (8, 0.2), (20, 0.2)])
def test_a_positive_is_above_chance_among_few_candidates(candidates, least):
    """Of three candidates each has more than min_probability by chance."""
    corpus = Corpus([Passage(f"c{number}", None, f"text of c{number}") for number in range(candidates)], name="few")
    names = [f"c{number}" for number in range(candidates)]
    query = replace(QUERY, seed_id=None)
    for gap in np.linspace(0.1, 8, 60):
        judged = [Judged(name, 0.5, {"ql": gap * (name == "c0") - n / 100}) for n, name in enumerate(names)]
        fusion = Fusion({"ql": float(gap) / 2}, 1.0, 48)
        row = JudgedQuery(query, None, judged)
        (mined,) = Mine(corpus, MineConfig(seed_rank=None, require_negative=False), 0, None, fusion)([row]).rows
        assert (mined.positive_id is not None) == (mined.candidates[0].probability >= least)
    settings = MineConfig(min_probability=0, seed_rank=None, require_negative=False)
    (mined,) = Mine(corpus, settings, 0, None, Fusion({"ql": 0.01}, 1.0, 48))([row]).rows
    assert mined.positive_id


def test_min_relevance_needs_the_label_judge():
    result = mine_calibrated(min_relevance=1.0, unanswered="reject")
    assert result.rejects[0].detail == "- of the positive is below 1"


def test_rows_without_an_answer_survive_the_parquet_file(tmp_path):
    config = parse_config({})
    parts = MINE.parts(tmp_path, config)
    rows = mine_calibrated(min_probability=0.99).rows + mine_calibrated().rows
    parts.write(0, rows)
    read = parts.rows(0)
    assert [row.positive_id for row in read] == [None, "a"]
    assert read[0].candidates[0].probability == rows[0].candidates[0].probability
    assert read[0].candidates[0].scores == pytest.approx(rows[0].candidates[0].scores)
