import math
import random

import pytest

from gecko_fret.build.report.lexical import distinct, mtld, opening, repeated_openings, windowed_ttr

PAPER = "of the people by the people for the people"


def test_mtld_of_the_papers_example_by_hand():
    """Forwards "of the people by the people" is a factor (4 / 6 < 0.72), the rest repeats nothing; so backwards."""
    assert mtld(PAPER.split()) == pytest.approx((9 / 1 + 9 / 1) / 2)


def test_mtld_counts_a_part_of_a_factor():
    """TTR 3 / 4 at the end: (1 - 0.75) / (1 - 0.72) of a factor, read either way."""
    assert mtld(list("abca")) == pytest.approx(4 / (0.25 / 0.28))


def test_mtld_reads_both_ways():
    """Forwards: a factor at "a b a" (2 / 3), then c d. Backwards: d c a b a, TTR 4 / 5 at the end."""
    assert mtld(list("abacd")) == pytest.approx((5 + 5 / (0.2 / 0.28)) / 2)


def test_mtld_ends_a_factor_at_the_threshold_itself():
    words = [f"w{n}" for n in range(18)] + ["w17"] * 7  # 18 / 25 = 0.72
    forward = 25 / 1
    backward = _plain(words[::-1])
    assert mtld(words) == pytest.approx((forward + backward) / 2)


def _plain(words):
    factors, start = 0.0, 0
    for end in range(1, len(words) + 1):
        part = words[start:end]
        if len(set(part)) <= 0.72 * len(part) + 1e-12:
            factors, start = factors + 1, end
    rest = words[start:]
    return len(words) / (factors + ((1 - len(set(rest)) / len(rest)) / 0.28 if rest else 0))


def test_mtld_is_that_of_a_plain_reference_on_long_texts():
    rng = random.Random(5)
    for vocabulary in (3, 20, 300):
        words = [f"w{int(rng.paretovariate(1.1)) % vocabulary}" for _ in range(1999)]
        assert mtld(words) == pytest.approx((_plain(words) + _plain(words[::-1])) / 2)


def test_mtld_of_extreme_texts():
    assert mtld(["a"] * 10) == pytest.approx(2)  # 1 / 2 after two words
    assert mtld(["a", "b", "c"]) == math.inf
    assert math.isnan(mtld([]))


def test_type_token_ratio_is_the_mean_of_whole_windows():
    words = list("aabbabcdee")  # windows of 4: 2 / 4, 4 / 4; the last two are left out
    assert windowed_ttr(words, 4) == pytest.approx(0.75)
    assert windowed_ttr(words * 50, 10) == pytest.approx(0.5)
    assert math.isnan(windowed_ttr(words, 11))


def test_distinct_runs_stay_within_texts():
    texts = [["a", "b", "a"], ["b", "a", "b"]]
    assert distinct(texts, 1) == pytest.approx(2 / 6)
    assert distinct(texts, 2) == pytest.approx(2 / 4)  # ab, ba, ba, ab
    assert distinct(texts, 3) == pytest.approx(1)
    assert math.isnan(distinct(texts, 4))


def test_repeated_openings():
    texts = [line.split() for line in ("what is the tax", "what is the rent", "what is a loan", "tax", "tax", "why")]
    assert repeated_openings(texts, 3) == (4 / 6, "tax", 2 / 6)
    assert repeated_openings(texts, 2) == (5 / 6, "what is", 3 / 6)
    assert opening(texts[0], 2) == "what is"
    assert repeated_openings([["a"], ["b"]])[:1] == (0,)
    assert math.isnan(repeated_openings([])[0])
