import pytest

from gecko_core.errors import DataError
from gecko_fret.corpus.passages import Corpus, Passage


def passages(n=5):
    return [Passage(f"p{i}", f"Title number {i} here", f"Some text of the passage number {i}.") for i in range(n)]


def test_corpus_is_a_sequence_with_lookup_by_id():
    corpus = Corpus(passages(), name="five")
    assert len(corpus) == 5
    assert corpus[1] == passages()[1]
    assert corpus[-1].id == "p4"
    assert [p.id for p in corpus[1:3]] == ["p1", "p2"]
    assert list(corpus) == passages()
    assert corpus.get("p3").title == "Title number 3 here"
    assert "p3" in corpus
    assert "absent" not in corpus
    with pytest.raises(IndexError):
        corpus[5]


def test_hash_depends_on_every_field_and_on_order_but_not_on_the_name():
    base = Corpus(passages(), name="a")
    assert base.hash == Corpus(passages(), name="b").hash
    assert base.hash != Corpus(passages()[::-1]).hash
    assert Corpus([Passage("a", "b", "c")]).hash != Corpus([Passage("ab", None, "c")]).hash
    assert Corpus([Passage("a", None, "c")]).hash != Corpus([Passage("a", "None", "c")]).hash


def test_subset_and_without_keep_corpus_order():
    corpus = Corpus(passages())
    assert corpus.subset(["p4", "p0"]).ids == ["p0", "p4"]
    assert corpus.without(["p4", "p0"]).ids == ["p1", "p2", "p3"]


def test_repeated_ids_name_both_passages():
    with pytest.raises(DataError, match=r"'p0' is used by passages 1 and 3"):
        Corpus([Passage("p0", None, "a"), Passage("p1", None, "b"), Passage("p0", None, "c")], name="c")


def test_pairs_use_unique_informative_titles_and_first_sentences():
    corpus = Corpus(
        [
            Passage("twice-1", "The same title", "Body one."),
            Passage("twice-2", "The same  TITLE", "Body two."),
            Passage("c", "Sorting a list in C", "Body of C."),
            Passage("c++", "Sorting a list in C++", "Body of C++."),
            Passage("short", "Two words", "Body three."),
            Passage("good", "A title of its own", "Body four."),
            Passage("untitled", None, "What is a first sentence for. " + "It has a rest that goes on and on. " * 4),
            Passage("stub", None, "What is a first sentence for. No rest."),
        ]
    )
    pairs = corpus.pairs()
    assert [(query, p.id) for query, p in pairs] == [
        ("Sorting a list in C", "c"),
        ("Sorting a list in C++", "c++"),
        ("A title of its own", "good"),
        ("What is a first sentence for.", "untitled"),
    ]
    assert pairs[0][1].title is None
    assert "first sentence" not in pairs[-1][1].text


def test_where_hardly_a_title_can_be_a_query_first_sentences_are():
    rest = "It has a rest that goes on and on. " * 4
    titles = [f"Chain {number}" for number in range(12)] + ["Next time", "Next time", "A title of its own"]
    passages = [Passage(str(n), title, f"What is note {n} for. {rest}") for n, title in enumerate(titles)]
    pairs = Corpus(passages).pairs()
    assert [query for query, _ in pairs] == [f"What is note {n} for." for n in range(14)] + ["A title of its own"]
    assert (pairs[0][1].title, pairs[-1][1].title) == ("Chain 0", None)
    assert pairs[0][1].text == rest.strip()
    enough = [Passage(f"t{n}", f"A title of number {n}", rest) for n in range(10)]
    assert [query for query, _ in Corpus([*passages, *enough]).pairs()] == [
        "A title of its own",
        *(passage.title for passage in enough),
    ]
