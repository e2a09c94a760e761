import pytest

from gecko_core.errors import DataError
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import EvaluationConfig, KnownItemsConfig
from gecko_train.data.holdout import hold_out


def corpus(count=40, **changes):
    passages = [Passage(f"p{n}", f"a telling title {n}", f"{'words ' * 50} number {n}") for n in range(count)]
    return Corpus([changes.get(passage.id, passage) for passage in passages])


def test_what_is_tested_is_in_no_training_material():
    held_out = hold_out(corpus(), EvaluationConfig(queries=8, max_documents=20), seed=0)
    tested = {next(iter(judged)) for judged in held_out.test.qrels.values()}
    assert len(tested) == 8
    assert not tested & set(held_out.training.ids)
    assert len(held_out.training) == 32
    pairs = [query for query, _ in held_out.training.pairs()]
    assert not set(held_out.test.queries) & set(pairs)


def test_the_pool_holds_the_tested_bodies_and_drawn_others_without_titles():
    held_out = hold_out(corpus(), EvaluationConfig(queries=8, max_documents=20), seed=0)
    assert len(held_out.test.docs) == 20
    assert held_out.test.titles is None
    for query_id, query in zip(held_out.test.query_ids, held_out.test.queries, strict=True):
        (document,) = held_out.test.qrels[query_id]
        body = held_out.test.docs[held_out.test.doc_ids.index(document)]
        assert body.endswith(query.removeprefix("a telling title").strip())
        assert query not in body


def test_a_copy_of_a_tested_body_leaves_the_training_corpus_too():
    text = f"{'words ' * 50} number 3"
    same = Corpus([*corpus(), Passage("copy", "the same under another title", text.upper())])
    draws = (hold_out(same, EvaluationConfig(queries=9, max_documents=20), seed=seed) for seed in range(40))
    held_out = next(draw for draw in draws if "p3" in draw.test.doc_ids[:9])
    assert "copy" not in held_out.training.ids
    assert len(held_out.training) == 41 - 10


def test_the_draw_depends_on_the_seed():
    config = EvaluationConfig(queries=8, max_documents=20)
    first, again, other = (hold_out(corpus(), config, seed).test.queries for seed in (0, 0, 1))
    assert first == again != other


def test_a_corpus_without_titles_to_search_by_is_refused():
    with pytest.raises(DataError, match=r"only 5 of 5 passages can be searched for, .* at least 10 are needed"):
        hold_out(corpus(5), EvaluationConfig(), seed=0)


def test_items_to_choose_by_are_neither_the_test_nor_trained_on():
    config, known = EvaluationConfig(queries=8, max_documents=20), KnownItemsConfig(titles=6, share=0.25, documents=15)
    without, with_items = hold_out(corpus(), config, seed=0), hold_out(corpus(), config, seed=0, known=known)
    assert without.titles is None
    assert with_items.test.queries == without.test.queries
    titles = with_items.titles
    assert len(titles.queries) == 6
    assert len(titles.docs) == 15
    assert not set(titles.queries) & set(with_items.test.queries)
    answers = {next(iter(judged)) for judged in titles.qrels.values()}
    assert not answers & set(with_items.training.ids)
    assert not answers & set(with_items.test.doc_ids)
    assert len(with_items.training) == 40 - 8 - 6
    again = hold_out(corpus(), config, seed=0, known=known)
    assert (again.titles, again.test, again.training.ids) == (titles, with_items.test, with_items.training.ids)


def test_a_share_of_a_small_corpus_is_too_little_to_choose_by():
    config = EvaluationConfig(queries=8, max_documents=20)
    held_out = hold_out(corpus(), config, seed=0, known=KnownItemsConfig())  # a tenth of 40
    assert held_out.titles is None
    assert held_out.training.ids == hold_out(corpus(), config, seed=0).training.ids
