import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import SetConfig
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set

CORPUS = Corpus(
    [
        Passage("1", "A title", "The tokay climbs walls at night. It barks loudly when other geckos come. Short one."),
        Passage("2", None, "It barks loudly when other geckos come. Leopard geckos have eyelids and no toe pads."),
    ],
    name="geckos",
)


def rows(**options):
    return list(load_set(SetConfig(source="simcse", options=options), SourceContext(CORPUS)))


def test_every_sentence_is_its_own_answer_once():
    found = rows()
    assert [row.query for row in found] == [
        "The tokay climbs walls at night.",
        "It barks loudly when other geckos come.",
        "Leopard geckos have eyelids and no toe pads.",
    ]
    for row in found:
        assert (row.positive.text, row.positive.title, row.negatives, row.symmetric) == (row.query, None, (), True)


def test_passages_and_shorter_texts():
    assert [row.query for row in rows(kinds=["passages"])] == [passage.text for passage in CORPUS]
    assert "Short one." in [row.query for row in rows(min_words=2)]
    assert len(rows(kinds=["sentences", "passages"])) == 5


def test_a_corpus_of_short_texts_alone_is_told_with_the_cure():
    with pytest.raises(DataError, match=r"set simcse: no rows in the run's corpus; .*options\.min_words .*: lower"):
        rows(min_words=50)


def test_it_needs_a_corpus():
    with pytest.raises(ConfigError, match="'simcse' without a path"):
        load_set(SetConfig(source="simcse"), SourceContext())
    with pytest.raises(ConfigError, match="kinds"):
        rows(kinds=["titles"])
