import numpy as np
import pytest

from gecko_fret.judges.fusion import Fusion
from gecko_fret.steps.known_items import SEEDS, SENTENCES, TITLES
from gecko_fret.steps.measured import CHANCE, FUSED, KNOWN, MeasuredCandidate, MeasuredItem, summary

JUDGES = ["good", "similarity", "coin"]


def item(number, kind, scores, answer):
    """Scores: judge -> values of the candidates."""
    candidates = [
        MeasuredCandidate(f"c{place}", {name: float(values[place]) for name, values in scores.items()})
        for place in range(len(scores["good"]))
    ]
    return MeasuredItem(f"{kind}/{number}", kind, "query", f"c{answer}", candidates)


def make_items(count=30, kind=TITLES, seed=0):
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        answer = int(rng.integers(10))
        scores = {name: rng.normal(size=10) for name in JUDGES}
        scores["good"][answer] += 4
        scores["similarity"][answer] += 1.5
        items.append(item(number, kind, scores, answer))
    return items


FUSION = Fusion({"good": 2.0, "similarity": 0.5, "coin": 0.0}, 1.0, 30)


def test_numbers_of_items_worked_out_by_hand():
    scores = [
        ({"good": [3, 2, 1], "similarity": [1, 2, 3], "coin": [0, 0, 0]}, 0),
        ({"good": [1, 3, 2], "similarity": [3, 1, 2], "coin": [0, 0, 0]}, 2),
    ]
    items = [item(number, SEEDS, *pair) for number, pair in enumerate(scores)] + make_items(8)
    found = summary(items, JUDGES, FUSION, 0)["measured_on"][SEEDS]
    assert (found["items"], found["candidates"]) == (2, 3)
    rankings = found["rankings"]
    assert rankings["good"]["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert rankings["similarity"]["mrr"] == pytest.approx((1 / 3 + 1 / 2) / 2, abs=1e-4)
    assert rankings["good"]["above_student"] == pytest.approx((2 / 3 + 0) / 2, abs=1e-4)
    assert rankings["good"]["ndcg"] == pytest.approx((1 + 1 / np.log2(3)) / 2, abs=1e-4)
    chance = (1 + 1 / 2 + 1 / 3) / 3
    assert rankings["coin"]["mrr"] == rankings[CHANCE]["mrr"] == pytest.approx(chance, abs=1e-4)
    # by hand: ranks 3 2 1 | 1 3 2 against 1 2 3 | 3 1 2
    assert found["agreement"]["good"]["similarity"] == pytest.approx((-1 - 1) / 2)
    assert found["agreement"]["good"]["good"] == 1
    assert found["agreement"]["good"]["coin"] == 0


def test_fused_is_above_the_student_and_chance_below():
    found = summary(make_items(), JUDGES, FUSION, 0)["measured_on"][KNOWN]["rankings"]
    assert found[FUSED]["above_student_low"] > 0
    assert found[CHANCE]["above_student_high"] < 0
    assert found[FUSED]["low"] < found[FUSED]["mrr"] < found[FUSED]["high"]
    assert found["similarity"]["above_student"] is None


def test_known_items_are_titles_and_sentences_written_ones_are_apart():
    items = make_items(9) + make_items(7, SENTENCES, 1) + make_items(5, SEEDS, 2)
    found = summary(items, JUDGES, FUSION, 0)["measured_on"]
    assert {name: kind["items"] for name, kind in found.items()} == {KNOWN: 16, TITLES: 9, SENTENCES: 7, SEEDS: 5}


def test_without_the_similarity_there_is_no_student_to_compare_with():
    names = ["good", "coin"]
    found = summary(make_items(), names, Fusion({"good": 2.0, "coin": 0.0}, 1.0, 30), 0)
    assert found["measured_on"][KNOWN]["rankings"][FUSED]["above_student"] is None


def test_the_same_items_give_the_same_numbers():
    assert summary(make_items(), JUDGES, FUSION, 3) == summary(make_items(), JUDGES, FUSION, 3)


def test_intervals_of_few_items_are_as_wide_as_students_t():
    """Percentiles of a few items drawn again and again are too near to each other; one item had no width at all."""
    items = make_items(6)
    found = summary(items, JUDGES, FUSION, 0)["measured_on"][TITLES]["rankings"]["similarity"]
    places = [[c.id for c in i.candidates].index(i.answer_id) for i in items]
    scores = [np.array([c.scores["similarity"] for c in i.candidates]) for i in items]
    ranks = np.array([1 / (s >= s[place]).sum() for s, place in zip(scores, places, strict=True)])
    half = 2.571 * ranks.std(ddof=1) / 6**0.5
    assert found["low"] == pytest.approx(max(0.0, ranks.mean() - half), abs=0.25 * half)
    assert found["high"] == pytest.approx(min(1.0, ranks.mean() + half), abs=0.25 * half)
    one = summary([*make_items(8, SENTENCES), *make_items(1)], JUDGES, FUSION, 0)["measured_on"][TITLES]["rankings"]
    assert (one["similarity"]["low"], one["similarity"]["high"]) == (0.0, 1.0)
    assert (one["good"]["above_student_low"], one["good"]["above_student_high"]) == (-1.0, 1.0)
