import numpy as np
import pytest

from gecko_fret import Candidate, FretRow
from gecko_train.data.scores import Targets, likely_answers


def row(values, probabilities=None):
    candidates = [
        Candidate(str(n), 0.1 * n, None, None, None, None, value, {"ql": -value}, probabilities and probabilities[n])
        for n, value in enumerate(values)
    ]
    return FretRow("r", "t", "q", None, [], None, None, candidates)


def test_probabilities_go_before_everything_else_and_keep_their_ratios():
    rows = [row([0.7, 0.2, 0.1], [0.7, 0.2, 0.1])]
    targets = Targets.choose(rows)
    logits = targets.logits(rows[0].candidates)
    assert targets.logarithms
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), [0.7, 0.2, 0.1])
    assert not Targets.choose(rows, "ql").logarithms


def test_scores_are_clipped_to_percentiles_of_the_whole_set_and_scaled():
    generator = np.random.Generator(np.random.PCG64(0))
    values = generator.normal(size=(40, 25))
    values[0, 0] = 1e6  # one broken score must not squeeze all others together
    rows = [row(list_values) for list_values in values]
    low, high = np.percentile(values, [1, 99])
    wanted = (np.clip(values, low, high) - low) / (high - low)
    targets = Targets.choose(rows, "fused", 0.5)
    np.testing.assert_allclose([targets.logits(r.candidates) for r in rows], wanted, atol=1e-12)
    by_default = Targets.choose(rows)
    np.testing.assert_allclose([by_default.logits(r.candidates) for r in rows], wanted / 0.3, atol=1e-12)


def test_equal_scores_and_missing_ones():
    rows = [row([1.0, 1.0])]
    np.testing.assert_array_equal(Targets.choose(rows).logits(rows[0].candidates), [0.0, 0.0])
    missing = Candidate("x", 0.5, None, None, None, None, 1.0)
    assert np.isnan(Targets.choose(rows, "ql").logits([missing]))


@pytest.mark.parametrize("logarithms", [True, False])
def test_a_share_is_one_of_probabilities_or_of_scaled_scores(logarithms):
    values = np.array([0.2, 0.9, np.nan, 0.55, 0.53, 0.0])
    logits = np.log(np.maximum(values, 1e-6)) if logarithms else values / 0.3
    assert likely_answers(logits, 0.6, logarithms).tolist() == [False, True, False, True, False, False]
    assert not likely_answers(np.full(3, np.nan), 0.6, logarithms).any()
