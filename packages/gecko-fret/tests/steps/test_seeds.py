from collections import Counter

from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps.seeds import sample_seeds


def corpus(sources):
    return Corpus([Passage(str(i), None, f"text {i}", source) for i, source in enumerate(sources)])


def test_sample_is_fixed_by_the_seed_number():
    plain = corpus([None] * 100)
    first = sample_seeds(plain, 20, seed=1)
    assert first == sample_seeds(plain, 20, seed=1)
    assert first != sample_seeds(plain, 20, seed=2)
    assert len(set(first)) == 20


def test_all_means_every_passage_once():
    plain = corpus([None] * 30)
    assert sorted(sample_seeds(plain, None, 0)) == sorted(sample_seeds(plain, 99, 0)) == list(range(30))


def test_larger_samples_contain_smaller_ones():
    plain = corpus([None] * 100)
    assert sample_seeds(plain, 50, 0)[:20] == sample_seeds(plain, 20, 0)


def test_sources_give_their_share():
    mixed = corpus(["a"] * 60 + ["b"] * 30 + [None] * 10)
    chosen = sample_seeds(mixed, 10, 0)
    assert Counter(mixed[row].source for row in chosen) == {"a": 6, "b": 3, None: 1}
    assert len(sample_seeds(mixed, 7, 0)) == 7
