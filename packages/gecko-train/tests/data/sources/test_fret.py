"""The adapter of FRet folders, over rows as `load_fret` gives them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.text_identity import text_id
from gecko_fret import Candidate, FretConfig, FretRow
from gecko_fret.corpus import Passage
from gecko_train.config import SetConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.fret import check_fret_set
from gecko_train.data.sources.registry import load_set
from gecko_train.loss.objective import ObjectiveConfig

PASSAGES = {f"p{n}": Passage(f"p{n}", f"title {n}" if n else None, f"text {n}") for n in range(6)}
FUSED = {"p2": 2.0, "p0": 1.0, "p1": 0.7, "p3": 0.6, "p4": 0.5, "p5": 0.3}
PROBABILITIES = {"p2": 0.5, "p0": 0.35, "p1": 0.1, "p3": 0.04, "p4": 0.01, "p5": 0.0}


def passage(name, source="llm"):
    return replace(PASSAGES[name], title=None) if source == "titles" else PASSAGES[name]


def paper_row():
    candidates = [Candidate(name, 0.9, -1.0, 3.0, 1, 1, score) for name, score in FUSED.items()]
    return FretRow("r", "fact checking", "ask", PASSAGES["p2"], [PASSAGES["p5"]], "p0", 2, candidates)


def calibrated_row(answered=True):
    candidates = [
        Candidate(name, 0.9 - place / 10, None, None, None, None, value, {"ql": -float(place)}, value)
        for place, (name, value) in enumerate(PROBABILITIES.items())
    ]
    positive, negatives = (PASSAGES["p2"], [PASSAGES["p0"], PASSAGES["p3"]]) if answered else (None, [])
    return FretRow("r", "task", "ask" if answered else "log", positive, negatives, None, None, candidates)


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Loads rows: load(rows, options={}, blocks=None, **context) -> the set."""

    def load(rows, options=None, blocks=None, limit=None, **context):
        data = type("Data", (list,), {"passage": staticmethod(passage)})(rows)
        monkeypatch.setattr("gecko_train.data.sources.fret.load_fret", lambda folder: data)
        config = SetConfig(source="fret", path=str(tmp_path), options=options or {}, blocks=blocks, limit=limit)
        return load_set(config, SourceContext(**context))

    return load


@pytest.mark.parametrize(
    ("options", "objective", "message"),
    [
        ({"sources": ["log"]}, {}, "has no row of log; it has llm"),
        ({}, {"kl": {"weight": 1, "score": "nope"}}, "no candidate has a score 'nope'; the scores here: "),
    ],
)
def test_what_a_folder_does_not_have_is_told_before_training(load, options, objective, message, tmp_path):
    load([calibrated_row()])
    given = SetConfig(source="fret", path=str(tmp_path), options=options)
    with pytest.raises(ConfigError, match=message):
        check_fret_set(given, ObjectiveConfig(**objective), FretConfig())
    check_fret_set(given.model_copy(update={"options": {}}), ObjectiveConfig(), FretConfig())


def texts(row):
    return [negative.text for negative in row.negatives]


def test_the_papers_choice_and_the_llms_task(load):
    (row,) = load([paper_row()])
    assert (row.task, row.query) == ("fact checking", "ask")
    assert (row.positive.text, row.positive.title) == ("text 2", "title 2")
    assert texts(row) == ["text 5"]
    assert not row.symmetric
    assert row.scores is None


def test_the_other_labels_of_the_papers_table(load):
    (row,) = load([paper_row()], {"positive": "seed"})
    assert row.positive.text == "text 0"
    (row,) = load([paper_row()], {"negative": "none"})
    assert row.negatives == ()
    for seed in range(10):
        for positive in ("p_1", "seed"):
            (row,) = load([paper_row()], {"negative": "random", "positive": positive}, seed=seed)
            assert texts(row)[0] not in ("text 2", "text 0")  # the judges' answer and the seed
    with pytest.raises(ConfigError, match="options of source 'fret': positive: input should be 'p_1' or 'seed'"):
        load([paper_row()], {"positive": "best"})


def test_fused_scores_at_a_temperature_of_the_recipes_are_as_they_were(load):
    (row,) = load([paper_row()], {"list_documents": 3}, teacher_temperature=1.0)
    assert texts(row) == ["text 5", "text 0", "text 3", "text 4"]
    assert row.scores == pytest.approx((2.0, 0.3, 1.0, 0.6, 0.5))


def test_fused_scores_are_scaled_by_default_to_a_spread_that_a_student_can_reach(load):
    (row,) = load([paper_row()], scored_documents=6)
    assert texts(row) == ["text 5", "text 0", "text 1", "text 3", "text 4"]
    assert max(row.scores) == pytest.approx(1 / 0.3, rel=1e-5)
    assert min(row.scores) == 0
    assert 0.1 < 0.05 * (max(row.scores) - min(row.scores)) < 0.3  # of cosine, at the default student temperature


def test_probabilities_are_read_as_their_logarithms_with_the_best_and_some_of_the_rest(load):
    (row,) = load([calibrated_row()], scored_documents=5)
    assert texts(row) == ["text 0", "text 3", "text 1", "text 4", "text 5"]  # mined two, the best, spread over the rest
    assert row.scores[:4] == pytest.approx(tuple(math.log(PROBABILITIES[name]) for name in ("p2", "p0", "p3", "p1")))
    assert row.scores[5] == pytest.approx(math.log(1e-6))
    (row,) = load([calibrated_row()], {"list_best": 0, "list_documents": 2}, scored_documents=5)
    assert texts(row)[2:] == ["text 1", "text 5"]


def test_any_judges_score_can_be_the_target(load):
    (row,) = load([calibrated_row()], scored_documents=9, score="ql")
    assert row.scores[0] == max(row.scores) == pytest.approx(1 / 0.3, rel=1e-5)
    assert row.scores[1] == pytest.approx(0.8 / 0.3, rel=0.03)  # the second of six evenly spaced, clipped at 1 and 99%
    (row,) = load([calibrated_row()], scored_documents=9, score="similarity", teacher_temperature=0.2)
    assert max(row.scores) == pytest.approx(1.0)
    with pytest.raises(ConfigError, match=r"no candidate has a score 'rc'; the scores here: fused, ql, similarity"):
        load([calibrated_row()], scored_documents=9, score="rc")


def test_likely_answers_are_no_hard_negatives_but_stay_in_the_list(load):
    options = {"scored_documents": 4, "false_negative_share": 0.6}
    (row,) = load([calibrated_row()], hard_negatives=2, **options)  # p0 has 0.7 of the best
    assert texts(row)[:2] == ["text 3", "text 1"]
    assert "text 0" in texts(row)[2:]
    (row,) = load([calibrated_row()], {"negative": "none", "list_documents": 1}, hard_negatives=2, **options)
    assert texts(row) == ["text 2", "text 2", "text 0"]  # the positive, masked by its id, in the negatives' places
    assert np.isnan(row.scores[1:3]).all()
    (row,) = load([calibrated_row()], hard_negatives=1, false_negative_share=0.6)
    assert (texts(row), row.scores) == (["text 3"], None)


@pytest.mark.parametrize(
    ("mined", "options", "hard", "expected"),
    [([], {}, 1, ["text 2"]), (["p0"], {"negative": "none"}, 1, ["text 2"]), (["p3"], {}, 2, ["text 3", "text 2"])],
)
def test_what_is_judged_besides_takes_no_place_of_a_hard_negative(load, mined, options, hard, expected):
    """The likeliest other answer did, where fewer negatives were mined than are learned from."""
    rows = [replace(calibrated_row(), negatives=[PASSAGES[name] for name in mined])]
    (row,) = load(rows, options, scored_documents=4, hard_negatives=hard)
    assert texts(row)[:hard] == expected  # text 2 is the positive: by its id it is no negative
    assert "text 0" in texts(row)[hard:]
    assert len(row.scores) == 1 + len(row.negatives)
    blocks = load(rows, options, blocks={}, hard_negatives=hard)
    own = blocks.layout(np.array([0]), np.arange(len(blocks.documents())), 6).rows[0, 1 : 1 + hard]
    assert [blocks.documents()[place].text for place in own] == expected
    assert blocks.has_hard_negatives() == (expected != ["text 2"])
    (bare,) = load(rows, options, hard_negatives=hard)
    assert texts(bare) == [text for text in expected if text != "text 2"]


def test_rows_without_an_answer_are_lists_or_left_out(load):
    rows = [calibrated_row(), calibrated_row(answered=False)]
    assert [row.query for row in load(rows)] == ["ask"]
    _, row = load(rows, scored_documents=4, unanswered=True)
    assert (row.query, row.positive, row.answered) == ("log", None, False)
    assert texts(row) == ["text 2", "text 0", "text 1", "text 5"]
    assert len(row.scores) == 4
    _, row = load(rows, unanswered=True)
    assert (texts(row), row.scores) == (["text 2"], None)


def test_blocks_hold_all_candidates_and_their_scores(load):
    rows = [calibrated_row(), calibrated_row(answered=False)]
    blocks = load(rows, blocks={}, unanswered=True, hard_negatives=1)
    assert len(blocks) == 2
    first, second = blocks.rows([0, 1])
    assert texts(first) == ["text 0", "text 3", "text 1", "text 4", "text 5"]
    assert len(second.documents) == len(second.scores) == 6
    assert len(load(rows, blocks={}, limit=1, unanswered=True)) == 1


@pytest.mark.parametrize(
    ("rows", "blocks", "said"),
    [
        ([], None, "this FRet folder has no rows; .* with more seeds"),
        ([calibrated_row(answered=False)], None, "found an answer for none of its 1 rows; learn from lists"),
        ([calibrated_row(answered=False)], {}, "found an answer for none of its 1 rows; learn from lists"),
    ],
)
def test_a_folder_with_nothing_to_learn_from_says_why(load, rows, blocks, said):
    with pytest.raises(DataError, match=said):
        load(rows, blocks=blocks)


def test_rows_that_are_set_apart_are_in_neither_lists_nor_blocks(load):
    rows = [paper_row(), replace(paper_row(), id="s", query="another")]
    for blocks in (None, {}):
        found = load(rows, blocks=blocks, held_out=frozenset([text_id("ASK ")]))
        assert len(found) == 1
        assert [row.query for row in found.rows([0])] == ["another"]


@pytest.mark.parametrize("options", [{}, {"positive": "seed", "negative": "random"}])
def test_no_passage_shows_its_title_beside_one(load, options):
    row = replace(calibrated_row(), seed_id="p4", source="titles")
    row = replace(row, positive=passage("p2", "titles"), negatives=[passage(n.id, "titles") for n in row.negatives])
    unanswered = replace(calibrated_row(answered=False), source="titles")
    for context in ({}, {"scored_documents": 5, "unanswered": True}):
        for found in load([row, unanswered], options, **context):
            assert all(d.title is None for d in (found.positive, *found.negatives) if d)


def test_rows_of_chosen_sources(load):
    rows = [paper_row(), replace(paper_row(), query="a title", source="titles")]
    assert [row.query for row in load(rows)] == ["ask", "a title"]
    assert [row.query for row in load(rows, {"sources": ["titles"]})] == ["a title"]
    assert [row.query for row in load(rows, {"sources": ["titles", "llm"]})] == ["ask", "a title"]
    with pytest.raises(ConfigError, match=r"sources: .* has no row of log; it has llm, titles"):
        load(rows, {"sources": ["log", "llm"]})
