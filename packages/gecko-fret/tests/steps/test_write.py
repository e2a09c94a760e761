from collections import Counter
from dataclasses import replace

import pytest

from gecko_core.errors import ConfigError, GeckoError
from gecko_fret.config import GenerateConfig, parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.prompting import Demonstration, load_prompts
from gecko_fret.steps.write import WRITE, Write, draw_seeds, kind_weights, sample_seeds

KEYWORD = "search engine "  # by which the fake LLM knows the kind


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


EXAMPLES = [Demonstration(kind="search result", passage=f"passage {i}", query=f"query {i}") for i in range(8)]


class Listener:
    """The fake LLM's methods, and what they were asked."""

    def __new__(cls, fake_llm):
        llm = fake_llm()
        llm.asked, llm.scored = [], []
        write, score = llm.generate, llm.score
        llm.generate = lambda requests, sampling: (
            llm.asked.extend(requests)
            or llm.sampling.append(sampling)
            or write([replace(r, prefix=KEYWORD + r.prefix) for r in requests], sampling)
        )
        llm.score = lambda requests, labels=(): llm.scored.extend(requests) or score(requests, labels)
        llm.sampling = []
        return llm


def test_examples_leave_one_kind_and_differ_between_prompts(small_corpus, fake_llm):
    llm = Listener(fake_llm)
    config = GenerateConfig(attempts=3, write_task=False, examples="mine.txt", examples_shown=3)
    rows = Write(small_corpus, [(llm, 1.0)], load_prompts("default"), config, 0, EXAMPLES)(small_corpus.ids).rows
    assert {row.kind for row in rows} == {"search result"}
    prefixes = Counter(request.prefix for request in llm.asked)
    assert len(prefixes) == 3
    assert min(prefixes.values()) > 20
    assert all(prefix.count("Passage: passage") == 3 for prefix in prefixes)
    assert sum(f"Query: query {i}\n" in prefix for i in range(8) for prefix in prefixes) == 9


def test_grounding_is_the_likelihood_with_the_passage_less_that_without(make, small_corpus, fake_llm):
    llm = Listener(fake_llm)
    rows = make(llms=[(llm, 1.0)], keep="grounded", write_task=True)(small_corpus.ids[:8]).rows
    grounded = [row for row in rows if row.grounding is not None]
    assert 0 < len(grounded) < len(rows)  # the fake LLM's "no such lines" cannot be read
    there, without = llm.scored[::2], llm.scored[1::2]
    assert len(there) == len(without) == len(grounded)
    scores = fake_llm().score([*there, *without])
    for row, request, first, second in zip(grounded, there, scores[: len(there)], scores[len(there) :], strict=True):
        assert row.text.endswith(request.continuation)
        assert row.grounding == first.logprob - second.logprob
    assert all(row.grounding is None for row in make()(small_corpus.ids[:4]).rows)


def test_contrast_is_handed_to_the_llm(make, small_corpus, fake_llm):
    llm = Listener(fake_llm)
    make(llms=[(llm, 1.0)], contrast=0.4, plausible=0.3)(small_corpus.ids[:2])
    assert [(s.contrast, s.plausible) for s in llm.sampling] == [(0.4, 0.3)]
    assert all(request.without.startswith("Passage: N/A") for request in llm.asked)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generate": {"examples": "absent.txt"}}, r"absent.txt: no such file"),
        (
            {"generate": {"contrast": 0.5}, "llm": {"backend": "openai", "model": "m", "url": "http://127.0.0.1:1"}},
            r"generate.contrast: backend 'openai' cannot decode so; use transformers or leave it at 0",
        ),
    ],
)
def test_settings_that_cannot_be_met_are_refused_before_the_build(settings, message):
    with pytest.raises(GeckoError, match=message):
        WRITE.check(parse_config(settings))


def test_examples_and_kinds_exclude_each_other(tmp_path):
    (tmp_path / "mine.txt").write_text("a query\n")
    settings = {"examples": str(tmp_path / "mine.txt"), "kinds": {"fact checking": 1}}
    with pytest.raises(ConfigError, match=r"generate.kinds has no effect beside generate.examples"):
        WRITE.check(parse_config({"generate": settings}))


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


@pytest.mark.parametrize(
    ("settings", "seeds", "gathered"),
    [
        ({}, 9, True),
        ({}, 10, False),  # a quarter of the corpus
        ({"neighbourhoods": 1}, 9, False),
        ({"neighbourhoods": 4}, 10, True),
        ({"neighbourhoods": 4}, None, True),
    ],
)
def test_few_seeds_are_drawn_as_neighbourhoods(small_corpus, settings, seeds, gathered):
    config = parse_config({"generate": {"seeds": seeds} | settings})
    rows, drawn = draw_seeds(small_corpus, config), sample_seeds(small_corpus, seeds, 0)
    assert len(set(rows)) == len(drawn)
    assert (rows != drawn) is gathered
    paper = parse_config({"generate": {"seeds": seeds}, "mine": {"fuse": "rrf"}})
    assert draw_seeds(small_corpus, paper) == drawn
