import math

import numpy as np
import pytest
from scipy.optimize import minimize

from gecko_fret.judges.fusion import (
    Fusion,
    ScoredList,
    above_chance,
    chance_reciprocal_rank,
    fit,
    held_out,
    independent_weights,
    maximise,
    reciprocal_rank,
    standardise,
)


def make_lists(strengths, items=48, candidates=20, seed=0):
    """Normal noise; a judge of strength s puts the answer s standard deviations higher. None: finds it always."""
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(items):
        scores = rng.normal(size=(candidates, len(strengths)))
        answer = int(rng.integers(candidates))
        for place, strength in enumerate(strengths):
            scores[answer, place] += 50.0 if strength is None else strength
        lists.append(ScoredList(scores, answer))
    return lists


def names(count):
    return [f"j{i}" for i in range(count)]


# -- the likelihood and its maximum


@pytest.mark.parametrize("ridge", [0.01, 1.0, 5.0])
def test_maximum_is_that_of_the_plain_likelihood(ridge):
    lists = make_lists([1.5, 0.7, 0.5], items=60, candidates=7, seed=4)
    tables, answers = [standardise(item.scores) for item in lists], [item.answer for item in lists]
    towards = np.array([0.8, 0.3, 0.2])

    def loss(weights):
        total = 0.0
        for table, answer in zip(tables, answers, strict=True):
            utilities = [float(sum(w * z for w, z in zip(weights, row, strict=True))) for row in table]
            total -= utilities[answer] - math.log(sum(math.exp(u) for u in utilities))
        return total / len(tables) + ridge / 2 * sum((w - t) ** 2 for w, t in zip(weights, towards, strict=True))

    reference = minimize(loss, [0.5] * 3, method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-13, "maxfev": 9999})
    assert (reference.x > 0).all()  # the bound is tested below
    np.testing.assert_allclose(maximise(tables, answers, ridge, towards), reference.x, atol=2e-5)


def test_a_judge_that_is_always_wrong_gets_no_negative_weight():
    lists = [ScoredList(item.scores * [1, -1], item.answer) for item in make_lists([2.0, 2.0])]
    tables, answers = [standardise(item.scores) for item in lists], [item.answer for item in lists]
    weights = maximise(tables, answers, 0.01, np.zeros(2))
    assert weights[0] > 1
    assert weights[1] == 0


def test_lists_of_different_lengths_are_added_up_alike():
    lists = make_lists([2.0, 1.0], items=10, candidates=9) + make_lists([2.0, 1.0], items=11, candidates=4, seed=1)
    tables, answers = [standardise(item.scores) for item in lists], [item.answer for item in lists]
    padded = [np.vstack([table, np.full((9 - len(table), 2), -1e3)]) for table in tables]  # never chosen
    np.testing.assert_allclose(
        maximise(tables, answers, 1.0, np.ones(2)), maximise(padded, answers, 1.0, np.ones(2)), atol=1e-6
    )


def test_independent_judges_have_the_weights_that_they_have_together():
    lists = make_lists([1.5, 0.8], items=3000, seed=2)
    tables, answers = [standardise(item.scores) for item in lists], [item.answer for item in lists]
    np.testing.assert_allclose(
        independent_weights(tables, answers), maximise(tables, answers, 1e-6, np.ones(2)), rtol=0.08
    )


# -- standardising


def test_standardised_scores_have_no_unit():
    scores = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_allclose(standardise(scores * [1e-8, 1e8] + [5, -3]), standardise(scores), atol=1e-6)
    assert standardise(scores).std(0) == pytest.approx([1, 1])


@pytest.mark.parametrize("exponent", [-300, -160, 160, 1000])
def test_very_large_and_small_scores_are_told_apart(exponent):
    scores = np.random.default_rng(1).normal(size=(9, 2))
    np.testing.assert_array_equal(standardise(np.ldexp(scores, exponent)), standardise(scores))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.zeros((4, 2))
    scores[2, 1] = value
    with pytest.raises(ValueError, match=r"score 1 of candidate 2 is (nan|-?inf)"):
        standardise(scores)


@pytest.mark.parametrize("value", [0.0, -3.3, 0.1 + 0.2, 1e300])
def test_a_judge_without_differences_says_nothing(value):
    assert (standardise(np.full((7, 1), value)) == 0).all()


# -- planted judges


@pytest.mark.parametrize("seed", range(12))
def test_pure_noise_gets_no_weight_and_changes_no_label(seed):
    lists = make_lists([2.0, 2.0, 0.0], seed=seed)
    fusion = fit(lists, names(3))
    assert fusion.weights["j2"] < 0.05
    assert fusion.weights["j0"] > 0.5
    without = fit([ScoredList(item.scores[:, :2], item.answer) for item in lists], names(2))
    for item in lists:
        columns = {name: item.scores[:, place] for place, name in enumerate(names(3))}
        assert fusion.probabilities(columns).argmax() == without.probabilities(columns).argmax()


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_judge_decides_and_silences_no_good_one(seed):
    """It is perfect on known items, which are easier than the queries to come."""
    fusion = fit(make_lists([1.5, None, 0.0], seed=seed), names(3))
    assert fusion.useful == ["j0", "j1"]
    others = make_lists([1.5, None, 0.0], seed=seed + 100)
    known = [fusion.probabilities(dict(zip(names(3), item.scores.T, strict=True)))[item.answer] for item in others]
    assert np.mean(known) > 0.99


@pytest.mark.parametrize("items", [8, 48])
@pytest.mark.parametrize("candidates", [3, 20])
@pytest.mark.parametrize("strengths", [(None, None, None), (20.0, 3.0, 0.0), (20.0, 3.0, 20.0)])
@pytest.mark.parametrize("word_judge", ["ql", "bm25"])
def test_word_judges_that_never_err_weigh_no_more_than_the_similarity(items, candidates, strengths, word_judge):
    lists = make_lists(strengths, items, candidates)
    judges = [word_judge, "similarity", "yes-no"]
    weights = fit(lists, judges).weights
    assert 0 < weights[word_judge] <= weights["similarity"]
    turned = [ScoredList(item.scores[:, ::-1], item.answer) for item in lists]
    assert fit(turned, judges[::-1]).weights == pytest.approx(weights, abs=2e-4)  # their order changes nothing


def test_no_judge_above_chance_leaves_no_weight():
    assert fit(make_lists([0.0, 0.0], seed=3), names(2)).useful == []


def test_known_items_that_one_judge_knows_better_do_not_silence_a_good_one():
    lists = make_lists([1.2, 2.5], items=40, seed=5)
    weights = fit(lists, names(2)).weights
    assert 0.2 < weights["j0"] / weights["j1"] < 1


def test_easy_items_leave_both_of_two_good_judges():
    fusion = fit(make_lists([4.0, 3.5], items=40), names(2))
    assert fusion.useful == names(2)


@pytest.mark.parametrize("word_judge", ["ql", "bm25"])
def test_a_word_judge_weighs_no_more_than_the_similarity(word_judge):
    lists = make_lists([1.0, 2.0, 1.5])
    free = fit(lists, names(3)).weights
    assert free["j1"] > free["j2"] > free["j0"]
    weights = fit(lists, ["similarity", word_judge, "yes-no"]).weights
    assert weights["similarity"] == weights[word_judge]
    assert weights["yes-no"] > weights["similarity"]
    # What is taken from one judge makes the answers no less certain than the weights allow: one factor scales all.
    tables, answers = [standardise(item.scores) for item in lists], [item.answer for item in lists]
    together = [(table @ np.array([*weights.values()]))[:, None] for table in tables]
    assert maximise(together, answers, 0.03, np.ones(1))[0] == pytest.approx(1, abs=0.01)


def test_a_word_judge_stands_alone_where_the_similarity_is_at_chance():
    weights = fit(make_lists([0.0, 2.0]), ["similarity", "ql"]).weights
    assert weights["similarity"] == 0 < weights["ql"]


def test_the_same_items_give_the_same_weights():
    assert fit(make_lists([1.0, 2.0]), names(2)) == fit(make_lists([1.0, 2.0]), names(2))


def test_a_given_ridge_is_used():
    assert fit(make_lists([1.0]), names(1), ridge=0.5).ridge == 0.5


# -- probabilities


def test_probabilities_are_the_softmax_of_weighted_standard_scores():
    fusion = Fusion({"a": 1.5, "b": 0.0, "c": 0.5}, 1.0, 10)
    scores = {"a": [3.0, 1.0, 2.0], "b": [9.0, 0.0, 0.0], "c": [0.0, 1.0, 5.0]}
    utility = 1.5 * standardise(np.array([scores["a"]]).T)[:, 0] + 0.5 * standardise(np.array([scores["c"]]).T)[:, 0]
    expected = np.exp(utility) / np.exp(utility).sum()
    np.testing.assert_allclose(fusion.probabilities(scores), expected, atol=1e-12)


def test_sums_that_are_equal_but_for_rounding_have_equal_probabilities_in_any_order():
    scores = np.array([[3.0, 0.0], [2.0, 3.0], [0.0, 3.0], [3.0, 2.0], [3.0, 3.0]])
    fusion, rng = Fusion({"a": 1.0, "b": 1.0}, 1.0, 9), np.random.default_rng(0)
    for _ in range(50):
        order = rng.permutation(5)
        found = dict(
            zip(
                order.tolist(),
                fusion.probabilities(dict(zip("ab", scores[order].T.tolist(), strict=True))),
                strict=True,
            )
        )
        assert (found[0], found[1]) == (found[2], found[3])


@pytest.mark.parametrize("size", range(2, 40))
def test_equal_scores_have_equal_probabilities_wherever_they_stand(size):
    """A matrix product rounded them differently, and one of two equal candidates became the positive by that."""
    rng = np.random.default_rng(size)
    fusion = Fusion({"ql": 1.2, "rc": 0.7}, 1.0, 48)
    for _ in range(50):
        kinds = rng.integers(0, 3, size)
        scores = {"ql": (-1.0 - kinds % 2).tolist(), "rc": (kinds * 0.3).tolist()}
        probabilities = fusion.probabilities(scores)
        assert len(set(probabilities.tolist())) == len(set(kinds.tolist()))


@pytest.mark.parametrize("scores", [[0.3], [2.0, 2.0, 2.0], [1e30, -1e30], [1e-300, 0.0]])
def test_probabilities_of_odd_lists_sum_to_one(scores):
    probabilities = Fusion({"a": 3.0}, 1.0, 10).probabilities({"a": scores})
    assert probabilities.sum() == pytest.approx(1)
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize(
    ("weights", "scores", "message"),
    [
        ({"a": 0.0, "b": 0.0}, {"a": [1.0, 2.0], "b": [1.0, 2.0]}, "no judge has a weight above 0"),
        ({"a": 1.0, "b": 1.0}, {"a": [1.0, 2.0]}, "no scores by b, which has a weight; there are those by a"),
        ({"a": 1.0, "b": 1.0}, {"a": [1.0, 2.0], "b": [1.0]}, "there are scores 2 by a, 1 by b"),
        ({"a": 1.0}, {"a": [1.0, math.inf]}, "score 0 of candidate 1 is inf"),
    ],
)
def test_scores_that_give_no_probabilities_are_refused(weights, scores, message):
    with pytest.raises(ValueError, match=message):
        Fusion(weights, 1.0, 10).probabilities(scores)


# -- ranks


def test_reciprocal_rank_averages_over_ties():
    scores = np.array([1.0, 3.0, 2.0, 2.0, 2.0])
    assert reciprocal_rank(scores, 1) == 1
    assert reciprocal_rank(scores, 0) == 1 / 5
    assert reciprocal_rank(scores, 3) == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
    assert reciprocal_rank(np.zeros(20), 5) == pytest.approx(chance_reciprocal_rank(20))


def test_chance_is_told_from_skill():
    lists = make_lists([0.0, 1.5], items=60)
    assert not above_chance([(item.scores[:, 0], item.answer) for item in lists])
    assert above_chance([(item.scores[:, 1], item.answer) for item in lists])
    assert not above_chance([])


def test_held_out_scores_rank_as_well_as_the_fit_promises():
    lists = make_lists([1.5, 1.5], items=60)
    fusion = fit(lists, names(2))
    fused = held_out(lists, names(2), fusion)
    mrr = [np.mean([reciprocal_rank(item.scores[:, j], item.answer) for item in lists]) for j in range(2)]
    assert np.mean([reciprocal_rank(s, item.answer) for s, item in zip(fused, lists, strict=True)]) > max(mrr)


def test_held_out_scores_come_from_other_items():
    lists = make_lists([1.5, 1.5], items=24)
    fusion = fit(lists, names(2))
    flipped = [*lists[:-1], ScoredList(lists[-1].scores, (lists[-1].answer + 1) % 20)]
    np.testing.assert_array_equal(held_out(lists, names(2), fusion)[-1], held_out(flipped, names(2), fusion)[-1])
