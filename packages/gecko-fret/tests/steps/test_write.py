from collections import Counter

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.config import GenerateConfig
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.write import Write, kind_weights, sample_seeds


@pytest.fixture
def make(small_corpus, fake_llm):
    def make(llms=None, seed=0, **settings):
        config = GenerateConfig(**({"attempts": 2} | settings))
        return Write(small_corpus, llms or [(fake_llm(), 1.0)], load_prompts("default"), config, seed)

    return make


def test_kinds_are_uniform_and_differ_within_a_seed(make, small_corpus):
    rows = make(attempts=4)(small_corpus.ids).rows
    assert Counter(row.kind for row in rows) == Counter(dict.fromkeys(load_prompts("default").kinds, 40))
    two = make()(small_corpus.ids).rows
    assert all(a.kind != b.kind for a, b in zip(two[::2], two[1::2], strict=True))
    counts = Counter(row.kind for row in two)
    assert len(counts) == 4
    assert min(counts.values()) > 8


def test_weights_choose_kinds(make, small_corpus):
    rows = make(attempts=1, kinds={"fact checking": 3, "search result": 1})(small_corpus.ids).rows
    counts = Counter(row.kind for row in rows)
    assert set(counts) == {"fact checking", "search result"}
    assert counts["fact checking"] > counts["search result"]


def test_a_seeds_attempts_do_not_depend_on_the_batch(make, small_corpus):
    whole = make()(small_corpus.ids).rows
    single = [row for seed in small_corpus.ids for row in make()([seed]).rows]
    assert whole == single
    assert whole != make(seed=1)(small_corpus.ids).rows


def test_generators_are_mixed_by_weight_and_named(make, fake_llm, small_corpus):
    llms = [(fake_llm(name="big"), 3.0), (fake_llm(name="small"), 1.0)]
    rows = make(llms=llms, attempts=4)(small_corpus.ids).rows
    counts = Counter(row.generator for row in rows)
    assert 90 < counts["big"] < 150
    assert counts["big"] + counts["small"] == 160


def test_tokens_are_counted(make, small_corpus):
    counters = make()(small_corpus.ids).counters
    assert counters["generated_tokens"] == 80 * 8
    assert counters["prompt_tokens"] > 0


def test_unknown_and_empty_kinds_are_refused():
    prompts = load_prompts("default")
    with pytest.raises(ConfigError, match="'poetry' is not in the prompts; they know question answering"):
        kind_weights(prompts, GenerateConfig(kinds={"poetry": 1}))
    with pytest.raises(ConfigError, match="no kind has a weight"):
        kind_weights(prompts, GenerateConfig(kinds={"fact checking": 0}))
    with pytest.raises(ConfigError, match="negative"):
        kind_weights(prompts, GenerateConfig(kinds={"fact checking": -1}))


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
