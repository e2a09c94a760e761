import csv

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_eval.metrics import spearman
from gecko_eval.report.compare import (
    TaskComparison,
    as_record,
    compare_results,
    compare_task,
    paired_bootstrap,
    write_comparison,
)


def test_reports_means_difference_and_counts():
    a, b = np.array([1.0, 0.5, 0.0, 0.5]), np.array([0.0, 0.5, 1.0, 0.25])
    result = paired_bootstrap(a, b, samples=500)
    assert (result.mean_a, result.mean_b, result.difference) == (0.5, 0.4375, 0.0625)
    assert (result.wins, result.losses, result.ties) == (2, 1, 1)
    assert result.low <= result.difference <= result.high
    assert not result.significant


def test_sums_in_another_order_are_ties():
    for a, b, count in ((0.7 + 0.1, 0.8, 40), (0.1 + 0.2, 0.3, 12)):
        assert a != b
        result = paired_bootstrap(np.array([a] * count), np.array([b] * count), samples=500)
        assert (result.wins, result.losses, result.ties, result.p_value) == (0, 0, count, 1.0)


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


@pytest.mark.parametrize("count", [2, 3, 5, 8, 20])
def test_the_interval_of_few_queries_covers_it_too(count):
    """Percentiles alone held the truth in half the cases of two queries, in three quarters of three."""
    rng, trials = np.random.default_rng(4), 400
    covered = 0
    for trial in range(trials):
        result = paired_bootstrap(rng.normal(0.05, 0.3, count), np.zeros(count), samples=300, seed=trial)
        covered += result.low <= 0.05 <= result.high
    # Of two queries half the draws are one of them twice, and the width is the largest that there can be.
    assert covered / trials > (0.87 if count == 2 else 0.92)


@pytest.mark.parametrize("count", [6, 8, 10, 15])
def test_few_queries_are_seldom_significant_by_chance(count):
    rng, trials = np.random.default_rng(6), 400
    values = np.array([0.0, 0.387, 0.43, 0.5, 0.63, 1.0])
    found = sum(
        paired_bootstrap(rng.choice(values, count), rng.choice(values, count), samples=300, seed=trial).significant
        for trial in range(trials)
    )
    assert found / trials < 0.09


def test_one_query_has_no_interval():
    result = paired_bootstrap(np.array([0.63]), np.array([0.387]))
    assert (result.low, result.high, result.p_value) == (-np.inf, np.inf, 1.0)
    assert not result.significant
    row = TaskComparison("of one", result, result.mean_a, result.mean_b, "queries", p_holm=1.0)
    assert (as_record(row)["low"], as_record(row)["high"], as_record(row)["p"]) == ("", "", 1.0)


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


def two_runs(tmp_path, **change):
    """Two results folders with items of three tasks: a clear gain, a small one, none."""
    from gecko_eval.results import load_results, save_items, save_results

    rng = np.random.default_rng(0)
    base = rng.random(400)
    found = []
    for name in ("a", "b"):
        gains = (
            {"clear": 0.2, "small": 0.03, "none": 0.0} if name == "a" else dict.fromkeys(("clear", "small", "none"), 0)
        )
        tasks = {}
        for task, gain in gains.items():
            items = base + gain + 0.3 * rng.standard_normal(400) if gain or name == "a" else base
            save_items(tmp_path / name, task, {"64/test/default": items})
            scores = {"64": {"main": float(items.mean()), "splits": {}}}
            tasks[task] = {"type": "Retrieval", "main_score": "x", "data": "d", "items": "mean", "scores": scores}
        tasks["clear"] |= change if name == "b" else {}
        save_results(tmp_path / name, {"model": {"label": name, "key": name}, "tasks": tasks})
        found.append(load_results(tmp_path / name))
    return found


def test_p_values_are_corrected_for_the_number_of_tasks(tmp_path):
    rows = {row.task: row for row in compare_results(*two_runs(tmp_path), samples=2000)}
    p = sorted((row.comparison.p_value, row.p_holm) for row in rows.values())
    assert p[0][1] == pytest.approx(3 * p[0][0])
    assert p[1][1] == pytest.approx(max(p[0][1], 2 * p[1][0]))
    assert p[2][1] == pytest.approx(max(p[1][1], p[2][0]))
    assert rows["clear"].p_holm < 0.05
    assert rows["clear"].dims == ("64", "64")


def test_damaged_or_changed_data_costs_its_own_interval_only(tmp_path):
    a, b = two_runs(tmp_path, data="other")
    (tmp_path / "b" / "items" / "small.npz").write_bytes(b"")
    rows = {row.task: row for row in compare_results(a, b, samples=100)}
    assert (rows["clear"].verdict, rows["clear"].same_data) == ("no interval: run on different data", False)
    assert "damaged" in rows["small"].verdict
    assert rows["none"].comparison is not None


@pytest.mark.parametrize("samples", [0, 1, 99, -5, 10**12, 2.5, True, "500", float("nan")])
def test_impossible_numbers_of_samples_are_refused(tmp_path, samples):
    with pytest.raises(ConfigError, match="samples must be 100 to 10,000,000"):
        compare_results(*two_runs(tmp_path), samples=samples)
    with pytest.raises(ConfigError, match="samples must be 100 to 10,000,000"):
        paired_bootstrap(np.ones(9), np.zeros(9), samples=samples)


@pytest.mark.parametrize(("count", "significant"), [(1, False), (2, False), (5, False), (6, True), (40, True)])
def test_a_few_queries_show_nothing_however_often_they_are_drawn(count, significant):
    """All draws of one query are alike; six that agree are the fewest that a test of signs takes for more."""
    found = paired_bootstrap(np.ones(count), np.zeros(count), samples=1000)
    assert found.significant is significant
    assert found.p_value == pytest.approx(max(2.0 ** (1 - count), 2 / 1001))
    of_pairs = compare_task("mean", {"s": np.ones(count)}, {"s": np.zeros(count)}, {}, samples=1000)
    assert of_pairs.significant is significant


def test_scores_that_no_difference_can_be_taken_of():
    with pytest.raises(DataError, match="needs finite scores"):
        paired_bootstrap(np.array([1e308, 1e308]), np.array([-1e308, 0]))
    with pytest.raises(DataError, match="needs numbers, found <U1 and <U1"):
        paired_bootstrap(["1"], ["2"])
    with pytest.raises(DataError, match="needs numbers, found complex128 and int64"):
        paired_bootstrap([1j], [2])


def test_gold_that_does_not_fit_gives_no_interval():
    items = {"test/default": np.arange(5.0)}
    for gold in ({}, {"test/default": np.arange(4.0)}):
        assert compare_task("spearman", items, items, gold) is None


def test_the_table_as_a_file(tmp_path):
    write_comparison(compare_results(*two_runs(tmp_path, data="other"), samples=100), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = {row["task"]: row for row in csv.DictReader(file)}
    assert float(rows["small"]["difference"]) == pytest.approx(
        float(rows["small"]["score_a"]) - float(rows["small"]["score_b"])
    )
    assert (rows["clear"]["low"], rows["clear"]["verdict"]) == ("", "no interval: run on different data")


@pytest.mark.parametrize("seed", [-1, 1.5, True, "1", 2**63])
def test_impossible_seeds_are_refused(seed):
    with pytest.raises(ConfigError, match="seed must be a whole number from 0"):
        paired_bootstrap(np.arange(9.0), np.ones(9), samples=100, seed=seed)


def test_tensors_that_a_gradient_flows_to_are_numbers_too():
    torch = pytest.importorskip("torch")
    a, b = np.arange(8.0), np.ones(8)
    expected = paired_bootstrap(a, b)
    assert paired_bootstrap(torch.tensor(a, requires_grad=True), torch.tensor(b)) == expected


def test_scores_that_numpy_has_no_type_for():
    torch = pytest.importorskip("torch")
    a, b = torch.tensor([1.0, 0.5, 0.25]), torch.tensor([0.5, 0.5, 0.5])
    assert paired_bootstrap(a.bfloat16(), b.bfloat16()) == paired_bootstrap(a.numpy(), b.numpy())
