import numpy as np
import pytest

from gecko_fret.config import Bm25Config
from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps.lexical import LexicalIndex

pytest.importorskip("bm25s")

TEXTS = ["common words here", "common rareword words", "common rareword rareword", "nothing else", "common words here"]
CORPUS = Corpus([Passage(f"p{i}", None, text) for i, text in enumerate(TEXTS)])


def test_rare_words_come_first_and_equal_passages_by_row():
    index = LexicalIndex(CORPUS, Bm25Config())
    assert index.search(["rareword common"], 3) == [[2, 1, 0]]
    assert index.search(["common words"], 9)[0][-1] == 2
    assert index.search(["words here"], 2) == [[0, 4]]


def test_passages_without_a_shared_word_are_not_found():
    index = LexicalIndex(CORPUS, Bm25Config())
    assert index.search(["rareword", "unheard of", ""], 9) == [[2, 1], [], []]


def test_order_is_that_of_the_judge():
    from gecko_fret.judges.bm25 import Statistics, split_words

    config = Bm25Config(k1=0.9, b=0.4)
    statistics, query = Statistics.of(CORPUS, config), split_words(["rareword common here"], config)[0]
    scores = [statistics.score(query, words, config) for words in split_words(TEXTS, config)]
    expected = [int(row) for row in np.lexsort((np.arange(5), -np.array(scores))) if scores[row] > 0]
    assert LexicalIndex(CORPUS, config).search(["rareword common here"], 5) == [expected]


@pytest.mark.parametrize("texts", [[], ["a"], ["!?"]])
def test_a_corpus_without_words_finds_nothing(texts):
    corpus = Corpus([Passage(f"p{i}", None, text) for i, text in enumerate(texts)])
    assert LexicalIndex(corpus, Bm25Config()).search(["a query"], 3) == [[]]
