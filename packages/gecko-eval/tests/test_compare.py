import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_eval.compare import compare_task, paired_bootstrap
from gecko_eval.metrics import spearman


def test_reports_means_difference_and_counts():
    a, b = np.array([1.0, 0.5, 0.0, 0.5]), np.array([0.0, 0.5, 1.0, 0.25])
    result = paired_bootstrap(a, b, samples=500)
    assert (result.mean_a, result.mean_b, result.difference) == (0.5, 0.4375, 0.0625)
    assert (result.wins, result.losses, result.ties) == (2, 1, 1)
    assert result.low <= result.difference <= result.high
    assert not result.significant


def test_a_clear_gain_is_significant_and_its_mirror_has_the_same_size():
    rng = np.random.default_rng(0)
    b = rng.random(300)
    a = b + 0.05 + 0.02 * rng.standard_normal(300)
    up, down = paired_bootstrap(a, b, samples=2000), paired_bootstrap(b, a, samples=2000)
    assert up.significant
    assert up.low > 0
    assert up.p_value < 0.01
    assert (down.low, down.high, down.p_value) == pytest.approx((-up.high, -up.low, up.p_value))


def test_equal_systems_have_p_value_one():
    scores = np.random.default_rng(1).random(50)
    result = paired_bootstrap(scores, scores.copy(), samples=200)
    assert (result.difference, result.low, result.high, result.p_value, result.ties) == (0, 0, 0, 1.0, 50)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(200):
        delta = rng.normal(0.1, 1.0, 80)
        result = paired_bootstrap(delta, np.zeros(80), samples=400, seed=trial)
        covered += result.low <= 0.1 <= result.high
    assert 180 <= covered <= 200  # 95% of 200, give or take three standard errors


def test_the_seed_decides():
    a, b = np.random.default_rng(3).random((2, 40))
    assert paired_bootstrap(a, b, seed=5) == paired_bootstrap(a, b, seed=5)
    assert paired_bootstrap(a, b, seed=5).low != paired_bootstrap(a, b, seed=6).low


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 2.0], r"one length, found \(1,\) and \(2,\)"),
        ([], [], "one length"),
        ([float("nan")], [1.0], "finite"),
    ],
)
def test_bad_arrays_are_one_line(a, b, message):
    with pytest.raises(DataError, match=message) as e:
        paired_bootstrap(np.array(a), np.array(b))
    assert "\n" not in str(e.value)


def test_subsets_weigh_the_same_whatever_their_size():
    a = {"en": np.ones(100), "sw": np.zeros(4)}
    b = {"en": np.zeros(100), "sw": np.zeros(4)}
    found = compare_task("mean", a, b, {}, samples=200)
    assert (found.mean_a, found.mean_b, found.difference) == (0.5, 0.0, 0.5)
    assert (found.wins, found.ties) == (100, 4)


def test_a_correlation_is_bootstrapped_over_pairs():
    rng = np.random.default_rng(0)
    gold = rng.random(200)
    good, poor = gold + 0.1 * rng.standard_normal(200), gold + 2.0 * rng.standard_normal(200)
    found = compare_task("spearman", {"s": good}, {"s": poor}, {"s": gold}, samples=2000)
    assert found.mean_a == spearman(good, gold)
    assert found.low > 0.3
    assert found.significant


def test_different_items_do_not_compare():
    assert compare_task("mean", {"s": np.ones(3)}, {"s": np.ones(4)}, {}) is None
    assert compare_task("mean", {"s": np.ones(3)}, {"t": np.ones(3)}, {}) is None
    assert compare_task("mean", {}, {}, {}) is None
