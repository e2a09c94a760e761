from collections import Counter

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.config import GenerateConfig
from gecko_fret.prompting import load_prompts
from gecko_fret.steps.write import Generate, kind_weights


@pytest.fixture
def make(small_corpus, fake_llm):
    def make(llms=None, seed=0, **settings):
        config = GenerateConfig(**({"attempts": 2} | settings))
        return Generate(small_corpus, llms or [(fake_llm(), 1.0)], load_prompts("default"), config, seed)

    return make


def seeds(corpus):
    return [{"seed_id": identifier} for identifier in corpus.ids]


def test_kinds_are_uniform_and_differ_within_a_seed(make, small_corpus):
    rows = make(attempts=4)(seeds(small_corpus)).rows
    assert Counter(row["kind"] for row in rows) == Counter(dict.fromkeys(load_prompts("default").kinds, 40))
    two = make()(seeds(small_corpus)).rows
    assert all(a["kind"] != b["kind"] for a, b in zip(two[::2], two[1::2], strict=True))
    counts = Counter(row["kind"] for row in two)
    assert len(counts) == 4
    assert min(counts.values()) > 8


def test_weights_choose_kinds(make, small_corpus):
    rows = make(attempts=1, kinds={"fact checking": 3, "search result": 1})(seeds(small_corpus)).rows
    counts = Counter(row["kind"] for row in rows)
    assert set(counts) == {"fact checking", "search result"}
    assert counts["fact checking"] > counts["search result"]


def test_a_seeds_attempts_do_not_depend_on_the_batch(make, small_corpus):
    whole = make()(seeds(small_corpus)).rows
    single = [row for seed in seeds(small_corpus) for row in make()([seed]).rows]
    assert whole == single
    assert whole != make(seed=1)(seeds(small_corpus)).rows


def test_generators_are_mixed_by_weight_and_named(make, fake_llm, small_corpus):
    llms = [(fake_llm(name="big"), 3.0), (fake_llm(name="small"), 1.0)]
    rows = make(llms=llms, attempts=4)(seeds(small_corpus)).rows
    counts = Counter(row["generator"] for row in rows)
    assert 90 < counts["big"] < 150
    assert counts["big"] + counts["small"] == 160


def test_tokens_are_counted(make, small_corpus):
    counters = make()(seeds(small_corpus)).counters
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
