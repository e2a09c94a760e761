import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_core.io import Lines
from gecko_fret.corpus import Corpus, Passage
from gecko_train.mntp.sequences import Sequences


def test_texts_are_laid_end_to_end_each_with_an_end_token(bidirectional):
    bidirectional.tokenizer.add_special_tokens({"additional_special_tokens": ["<mark>"]})
    corpus = Corpus([Passage("1", "a b", "c d e"), Passage("2", None, "f <mark> g")], name="two")
    found = Sequences.of_corpus(corpus, bidirectional, 4)
    words = bidirectional.tokenizer.convert_ids_to_tokens(found.ids.ravel().tolist())
    one, two = ["a", "b", "c", "d", "e", "</s>"], ["f", "<unk>", "g", "</s>"]  # the mark in the text is text
    assert words == ([*one, *two] if words[0] == "a" else [*two, *one])[:8]  # 10 tokens are two sequences of 4
    assert found.special.ravel().tolist() == [word in ("</s>", "<unk>") for word in words]


def test_tokenising_says_how_far_it_is(bidirectional, monkeypatch):
    monkeypatch.setattr("gecko_train.mntp.sequences._AT_ONCE", 4)
    corpus = Corpus([Passage(str(n), None, "a b c d") for n in range(10)], name="ten")
    said = []
    shown = Sequences.of_corpus(corpus, bidirectional, 4, progress=Lines(every=0, write=said.append))
    assert said[0] == "tokenising 10 texts"
    assert [line.split(",")[0] for line in said[1:3]] == ["tokenising 4 of 10 texts", "tokenising 8 of 10 texts"]
    assert all(line.endswith(" left") for line in said[1:3])
    assert said[3].startswith("tokenising done, 10 texts in ")
    assert shown.fingerprint == Sequences.of_corpus(corpus, bidirectional, 4).fingerprint


def test_a_step_reads_what_seed_and_step_say():
    tokens = np.arange(103)
    one, same, other = (Sequences(tokens, [], 10, seed) for seed in (1, 1, 2))
    assert len(one) == 10
    assert [one.batch(step, 4).tolist() for step in (5, 0, 2)] == [same.batch(step, 4).tolist() for step in (5, 0, 2)]
    assert one.batch(0, 10).tolist() != other.batch(0, 10).tolist()
    # A pass has each sequence once, also where a batch lies across its end.
    drawn = [row for step in range(5) for row in one.batch(step, 4).tolist()]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert drawn[:10] != drawn[10:]
    assert len(one.batch(0, 25)) == 25


def test_another_corpus_or_seed_is_another_plan():
    tokens = np.arange(40)
    plans = {Sequences(tokens, [], 10).fingerprint, Sequences(tokens, [], 10, 1).fingerprint}
    plans |= {Sequences(tokens, [], 20).fingerprint, Sequences(tokens + 1, [], 10).fingerprint}
    assert len(plans) == 4


def test_few_tokens_make_one_short_sequence_and_none_are_refused():
    assert Sequences(np.arange(7), [], 512).ids.shape == (1, 7)
    with pytest.raises(DataError, match="fewer than two tokens"):
        Sequences(np.zeros(1, dtype=np.int64), [], 8)
