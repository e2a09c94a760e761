import numpy as np
import pytest
from scipy.stats import chi2_contingency

from gecko_fret.build.report.giveaways import giveaways


def test_words_and_openings_of_each_side_by_hand():
    written = [f"What is the use of w{n}" for n in range(40)] + [f"plain w{n}" for n in range(60)]
    real = [f"does w{n} work" for n in range(100)]
    found = {(entry.what, entry.text): entry for entry in giveaways(written, real)}
    assert {("word", "what"), ("opening", "what is"), ("word", "does"), ("word", "work")} <= found.keys()
    what = found["word", "what"]
    assert (what.written, what.real) == (0.4, 0.0)
    expected = chi2_contingency(np.array([[40, 60], [0, 100]]), correction=False).statistic
    assert what.z == pytest.approx(expected**0.5)
    assert found["word", "work"].z == pytest.approx(-(200**0.5))
    assert [entry.z > 0 for entry in found.values()] == sorted((e.z > 0 for e in found.values()), reverse=True)


def test_a_word_counts_once_a_text_and_sizes_may_differ():
    written, real = ["no no no no"] * 10, ["yes"] * 40
    entry = next(entry for entry in giveaways(written, real) if entry.text == "no" and entry.what == "word")
    assert entry.z == pytest.approx(50**0.5)


def test_equal_sets_give_nothing_away():
    rng = np.random.default_rng(2)
    words = [f"w{n}" for n in range(300)]
    sides = [[" ".join(rng.choice(words, 8)) for _ in range(200)] for _ in range(2)]
    assert len(giveaways(*sides)) <= 3
    assert giveaways(sides[0], sides[0]) == []


def test_most_and_texts_without_words():
    written = [" ".join(f"a{n}" for n in range(30))] * 50
    assert len(giveaways(written, ["???", ""] * 25, most=4)) == 5  # four words, one opening
    assert giveaways([], []) == []
