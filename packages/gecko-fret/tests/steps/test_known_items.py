from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from gecko_fret.config import parse_config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.models import Models
from gecko_fret.steps.base import BuildContext
from gecko_fret.steps.filter import FILTER, Query
from gecko_fret.steps.known_items import (
    FEWEST_ITEMS,
    SEEDS,
    SENTENCES,
    TITLES,
    cut_sentence,
    plan_items,
    sentences,
    titles,
)
from gecko_fret.steps.retrieve import RETRIEVE, Retrieved

LONG = "The first sentence has several words in it. A second one follows with as many words. And a third one ends it."


def draws(seed=0):
    return np.random.default_rng(seed)


def test_titles_name_one_passage_each_and_are_taken_off():
    corpus = Corpus(
        [
            Passage("a", "A title of its own", LONG),
            Passage("b", "Shared title twice here", LONG + " b"),
            Passage("c", "Shared title twice here", LONG + " c"),
            Passage("d", None, LONG + " d"),
            Passage("e", "Short", LONG + " e"),
        ]
    )
    assert titles(corpus, 10, 0) == [("A title of its own", Passage("a", None, LONG))]


def test_a_sentence_is_cut_out_of_its_passage():
    seen = set()
    for seed in range(20):
        sentence, rest = cut_sentence(Passage("a", "T", LONG), draws(seed))
        assert sentence in LONG
        assert sentence not in rest.text
        assert not sentence.endswith(".")
        assert len(f"{sentence} {rest.text}".split()) == len(LONG.split())
        assert (rest.id, rest.title) == ("a", "T")
        seen.add(sentence)
    assert len(seen) == 3


def test_a_passage_of_one_sentence_gives_a_run_of_its_words():
    text = " ".join(f"word{i}" for i in range(17))
    sentence, rest = cut_sentence(Passage("a", None, text), draws())
    assert len(sentence.split()) == 4
    assert sentence in text
    assert sorted(sentence.split() + rest.text.split()) == sorted(text.split())


@pytest.mark.parametrize("text", ["Too short.", " ".join(["word"] * 11), "Yes. No."])
def test_a_passage_that_would_have_nothing_left_gives_none(text):
    assert cut_sentence(Passage("a", None, text), draws()) is None


def test_sentences_are_those_of_the_seed():
    corpus = Corpus([Passage(f"p{i}", None, f"{LONG} Passage number {i}.") for i in range(30)])
    assert sentences(corpus, 5, 1) == sentences(corpus, 5, 1)
    assert len(sentences(corpus, 5, 1)) == 5
    assert {p.id for _, p in sentences(corpus, 5, 1)} != {p.id for _, p in sentences(corpus, 5, 2)}
    assert len(sentences(corpus, 100, 1)) == 30


@pytest.fixture(scope="module")
def corpus(small_corpus):
    """Passages of two sentences of the same words, so that titles and sentences find them."""
    passages = []
    for passage in small_corpus:
        words = passage.text.rstrip(".").split()
        text = f"{' '.join(words).capitalize()}. {' '.join(reversed(words)).capitalize()}."
        passages.append(replace(passage, title=" ".join(words[:12:3]), text=text))
    return Corpus(passages)


@pytest.fixture
def build(tmp_path, corpus, make_models):
    """A build whose queries are retrieved."""
    from gecko_fret.build.pipeline import build_fret

    config = parse_config(
        {
            "llm": {"model": "fake"},
            "generate": {"seeds": 12, "part_size": 5},
            "retrieve": {"candidates": 6, "part_size": 8},
            "measure": {"items": 20, "seeds": 7, "candidates": 5},
            "score": {"judges": ["similarity", "ql"]},
        }
    )
    build_fret(config, tmp_path / "out", corpus=corpus, models=make_models(), until=RETRIEVE)
    return BuildContext(tmp_path / "out", config, corpus, make_models())


def test_items_are_half_titles_half_sentences_then_written_queries(build, corpus):
    items = [make() for make in plan_items(build)]
    assert [item.kind for item in items] == [TITLES] * 10 + [SENTENCES] * 10 + [SEEDS] * 7
    assert len({item.id for item in items}) == 27
    for item in items:
        assert len(item.passages) == len(item.similarities) == 5
        assert [p.id for p in item.passages].count(item.answer_id) == 1
        answer = next(p for p in item.passages if p.id == item.answer_id)
        assert (item.query in answer.full_text) is False
        if item.kind == TITLES:
            assert item.query == corpus.get(item.answer_id).title
            assert all(p.title is None for p in item.passages)
        else:
            assert all(p.title for p in item.passages)
        if item.kind == SENTENCES:
            others = [p for p in item.passages if p.id != item.answer_id]
            assert others == [corpus.get(p.id) for p in others]


def test_similarities_are_to_what_is_shown(build, fake_embedder):
    item = plan_items(build)[0]()
    vectors = fake_embedder().encode_documents([p.text for p in item.passages])
    np.testing.assert_allclose(item.similarities, vectors @ fake_embedder().encode_queries([item.query])[0], rtol=1e-5)


def test_written_queries_that_miss_their_seed_are_no_items(build):
    queries = list(build.parts(FILTER))
    one = queries[0].seed_id
    for number in build.parts(RETRIEVE).numbers():
        rows = [replace(row, candidate_ids=[one] * 5) for row in build.parts(RETRIEVE).rows(number)]
        build.parts(RETRIEVE).write(number, rows)
    seeds = [item for item in (make() for make in plan_items(build)) if item.kind == SEEDS]
    found = {query.id for query in queries if query.seed_id == one}
    assert 0 < len(found) < len(queries)
    assert {item.id.removeprefix("seeds/") for item in seeds} == found


def test_answers_are_among_the_nearest_as_they_are_shown(build, corpus, fake_embedder):
    """No item has a candidate that is there because it is nearer than the answer could be."""
    vectors = fake_embedder().encode_documents(corpus.texts, corpus.titles)
    for item in (make() for make in plan_items(build)):
        if item.kind == SENTENCES:
            place = [p.id for p in item.passages].index(item.answer_id)
            others = np.delete(vectors, corpus.row(item.answer_id), axis=0)
            nearest = np.sort(others @ fake_embedder().encode_queries([item.query])[0])[::-1]
            assert item.similarities[place] >= nearest[3] - 1e-6  # of five candidates four are others


def test_where_the_embedder_finds_nothing_a_few_items_are_taken_all_the_same(build):
    class Blind:
        """Whatever is asked, its answer is the farthest of all."""

        def encode_queries(self, texts, task=""):
            return np.ones((len(texts), 1), np.float32)

        def encode_documents(self, texts, titles=None):
            return -np.ones((len(texts), 1), np.float32)

    class Index:
        def search(self, queries, count):
            rows = np.tile(np.arange(count), (len(queries), 1))
            return rows, np.ones(rows.shape, np.float32)

    build.keep("index", Index)
    build.models = Models(embedder=Blind())
    kinds = Counter(item.kind for item in (make() for make in plan_items(build)))
    assert kinds[SENTENCES] == kinds[TITLES] == FEWEST_ITEMS // 2
    untitled = Corpus([replace(passage, title=None) for passage in build.corpus])
    other = BuildContext(build.out, build.config, untitled, Models(embedder=Blind()))
    other.keep("index", Index)
    kinds = Counter(item.kind for item in (make() for make in plan_items(other)))
    assert (kinds[SENTENCES], kinds[TITLES]) == (FEWEST_ITEMS, 0)


def test_titles_that_are_missing_are_made_up_for_by_sentences(build):
    untitled = Corpus([Passage(f"p{i}", None, f"{LONG} Passage number {i} of many.") for i in range(40)])
    assert len(titles(untitled, 10, 0)) == 0
    other = BuildContext(build.out, build.config, untitled, build.models)
    other.parts(FILTER).clear()
    assert len(plan_items(other)) == 20


def test_queries_without_a_seed_are_no_items(build):
    rows = [Query("log/0", None, 0, "search result", "search result", "what", "log", 0.0)]
    build.parts(FILTER).clear()
    build.parts(FILTER).write(0, rows)
    build.parts(RETRIEVE).write(0, [Retrieved("log/0", None, ["doc-01", "doc-02"], [0.5, 0.4])])
    assert all(make().kind != SEEDS for make in plan_items(build)[20:])


def test_written_queries_are_from_all_parts_and_far_apart(build):
    numbers = {row.id: number for number in build.parts(FILTER).numbers() for row in build.parts(FILTER).rows(number)}
    chosen = [item.id.removeprefix("seeds/") for item in (make() for make in plan_items(build)) if item.kind == SEEDS]
    of_part = Counter(numbers[name] for name in chosen)
    assert len(of_part) == len(set(numbers.values())) > 1
    assert max(of_part.values()) - min(of_part.values()) <= 1
    for number in of_part:
        near = {row.query_id: row.candidate_ids[:5] for row in build.parts(RETRIEVE).rows(number)}
        ids = [row.id for row in build.parts(FILTER).rows(number) if row.seed_id in near[row.id]]
        assert {ids[0], ids[-1]} <= set(chosen) or of_part[number] == 1
