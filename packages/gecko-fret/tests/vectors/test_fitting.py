"""Weights: above 0 where a field helps to find documents, 0 where it does not; similarities against plain ones."""

import math

import numpy as np
import pytest

from gecko_core.fields import FIELDS, read_fields
from gecko_core.io import Silent
from gecko_fret.corpus.passages import Passage
from gecko_fret.vectors import encode_fields, fit_weights
from gecko_fret.vectors.fitting import MOST, _Items, _repeats

TASK = "search result"


@pytest.fixture
def encoded_of(word_model, make_run, tmp_path):
    def encoded(passages, name="run"):
        return encode_fields(
            word_model, read_fields(make_run(passages, name), "all"), tmp_path / f"w-{name}", TASK, Silent()
        )

    return encoded


def test_queries_with_a_document_s_own_words_get_a_weight(encoded_of, word_model, topics):
    fitted = fit_weights(word_model, encoded_of(topics(own_queries=True)), 96, TASK)
    assert fitted.items == 40
    assert fitted.mrr_fitted > fitted.mrr + 0.1
    assert 0.1 < fitted.weights["queries"] <= MOST
    assert fitted.weights["chunks"] == 0  # every document has one chunk


def test_queries_of_other_documents_get_none(encoded_of, word_model, topics):
    fitted = fit_weights(word_model, encoded_of(topics(own_queries=False)), 96, TASK)
    assert fitted.weights["queries"] < 0.05


def test_the_same_weights_every_time_and_others_by_other_sentences(encoded_of, word_model, topics):
    encoded = encoded_of(topics(own_queries=True))
    first = fit_weights(word_model, encoded, 32, TASK)
    assert fit_weights(word_model, encoded, 32, TASK) == first
    assert fit_weights(word_model, encoded, 32, TASK, seed=1) != first


def test_too_few_sentences_and_no_fields_give_zeros(encoded_of, word_model, topics):
    few = fit_weights(word_model, encoded_of(topics(True)[:10], "few"), 96, TASK)
    assert (few.items, set(few.weights.values())) == (10, {0.0})
    assert math.isnan(few.mrr)
    bare = [(name, None, text, [], []) for name, _, text, _, _ in topics(True)]
    assert set(fit_weights(word_model, encoded_of(bare, "bare"), 96, TASK).weights.values()) == {0.0}


@pytest.mark.parametrize("missing", ["chunks", "zero"])
def test_similarities_are_those_of_plain_arithmetic(encoded_of, word_model, missing):
    passages = [
        ("a#0", "Head", "Blue birds sing. Red fish swim away slowly today.", ["do birds sing", "what fish"], []),
        ("a#1", "Head", "Green frogs jump over there. Old cats sleep.", [], []),
        ("b", None, "Nothing is known of this one.", ["red fish swim away slowly"], []),
    ]
    encoded = encoded_of(passages)
    line, rest = "Red fish swim away slowly today", Passage("0", "Head", "Blue birds sing.")
    [item] = _Items(word_model, encoded, 40, TASK, missing).of([(line, rest)])

    def vectors(texts, titles=None):
        full = word_model.encode_documents(texts, titles).astype(np.float64)[:, :40]
        return full / np.linalg.norm(full, axis=1, keepdims=True)

    query = vectors([line])[0]
    own = vectors([rest.text, passages[1][2]], ["Head", "Head"]) @ query
    other = vectors([passages[2][2]]) @ query
    fields = {
        # "what fish" has a word of two from the sentence, so that it repeats it and does not count.
        0: {"title": vectors(["Head"]) @ query, "chunks": own, "queries": vectors(["do birds sing"]) @ query},
        1: {
            "title": other if missing == "chunks" else [0.0],
            "chunks": other,
            "queries": vectors(passages[2][3]) @ query,
        },
    }
    expected = [[best, *(np.mean(fields[n][f]) for f in FIELDS)] for n, best in enumerate((own.max(), other.max()))]
    np.testing.assert_allclose(item.table, expected, atol=1e-6)
    assert item.answer == 0


def test_queries_that_repeat_a_line():
    assert _repeats("red fish swimming", "A red fish swims.")
    assert not _repeats("what do fish eat", "A red fish swims.")
