import numpy as np
import pytest

from gecko_fret.build.report.style import area, told_apart

SUBJECTS = [
    f"{a} {b}" for a in ("cash", "loan", "tax", "rent", "bond") for b in ("rates", "returns", "limits", "rules")
]


def test_queries_of_one_kind_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    texts = [f"how do I {rng.choice(['find', 'pay', 'lower'])} {rng.choice(SUBJECTS)} in {n}" for n in range(200)]
    assert told_apart(texts[::2], texts[1::2], seed=0) == pytest.approx(0.5, abs=0.12)


def test_queries_of_two_styles_can():
    questions = [f"how do I find {subject}?" for subject in SUBJECTS]
    claims = [f"The {subject} are set by the state." for subject in SUBJECTS]
    assert told_apart(questions, claims, seed=0) > 0.99
    assert told_apart(claims, questions, seed=0) > 0.99


def test_sides_may_differ_in_size_and_the_result_repeats():
    few, many = [f"how do I find {s}?" for s in SUBJECTS], [f"what are {s} in {n}" for n in range(40) for s in SUBJECTS]
    value = told_apart(few, many, seed=1)
    assert value == told_apart(few, many, seed=1)
    assert value > 0.99


def test_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 40).astype(float)
    expected = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert area(a, b) == pytest.approx(expected)
    assert area(np.array([2.0]), np.array([1.0])) == 1.0
