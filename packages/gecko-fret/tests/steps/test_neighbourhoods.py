import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from gecko_fret.corpus.passages import Corpus, Passage
from gecko_fret.steps import neighbourhoods
from gecko_fret.steps.neighbourhoods import gather, nearest
from gecko_fret.steps.write import sample_seeds


@pytest.fixture(scope="module")
def subjects():
    """200 passages on 20 subjects, shuffled: each has words of its subject, words of all, and one of its own."""
    rng = np.random.default_rng(0)
    passages = []
    for place in rng.permutation(200).tolist():
        subject = place % 20
        words = [f"s{subject}w{number}" for number in rng.choice(12, 6, replace=False)]
        words += [f"common{number}" for number in rng.choice(6, 3)] + [f"own{place}"]
        passages.append(Passage(f"{subject}/{place}", None, " ".join(rng.permutation(words)), "ab"[place % 2]))
    return Corpus(passages)


def subject(passage):
    return passage.id.split("/")[0]


def reference(corpus, centre, count):
    """By the definition, in fp64: cosine of (1 + log count) * log(N / passages with the word)."""
    texts = [Counter(passage.full_text.lower().split()) for passage in corpus]
    seen = Counter(word for text in texts for word in text)
    telling = {word: math.log(len(texts) / n) for word, n in seen.items() if n <= max(2, 0.2 * len(texts))}
    vectors = [{word: (1 + math.log(n)) * telling.get(word, 0) for word, n in text.items()} for text in texts]
    norms = [math.sqrt(sum(value**2 for value in vector.values())) or 1.0 for vector in vectors]
    cosines = [
        sum(value * vectors[centre].get(word, 0) for word, value in vector.items()) / norm / norms[centre]
        if passage.source == corpus[centre].source
        else 0.0
        for passage, vector, norm in zip(corpus, vectors, norms, strict=True)
    ]
    ranked = sorted(range(len(texts)), key=lambda row: (-round(cosines[row], 9), row))
    return [row for row in ranked[:count] if cosines[row] > 0], cosines


@pytest.mark.parametrize("chunk", [4096, 7])
def test_nearest_are_those_of_the_definition(subjects, chunk, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "_CHUNK_PASSAGES", chunk)
    centres = [5, 0, 199, 42]
    for centre, rows in zip(centres, nearest(subjects, centres, 9), strict=True):
        expected, cosines = reference(subjects, centre, 9)
        assert rows[0] == centre
        np.testing.assert_allclose([cosines[row] for row in rows], [cosines[row] for row in expected], atol=1e-9)


def test_passages_without_a_word_in_common_and_empty_ones_are_nobodys_neighbours():
    corpus = Corpus([Passage(str(n), None, text) for n, text in enumerate(["a b", "c d", "a e", "...", "f", "g", "h"])])
    assert nearest(corpus, [0, 1, 3], 5) == [[0, 2], [1], []]
    assert nearest(corpus, [], 5) == []


@pytest.mark.parametrize("size", [2, 5, 8])
def test_neighbourhoods_are_of_one_subject_and_as_many_passages_as_were_drawn(subjects, size):
    drawn = sample_seeds(subjects, 41, seed=3)
    rows = gather(subjects, drawn, size, seed=3)
    assert len(rows) == len(set(rows)) == 41
    assert Counter(subjects[row].source for row in rows) == Counter(subjects[row].source for row in drawn)
    changes = sum(subject(subjects[a]) != subject(subjects[b]) for a, b in pairwise(rows))
    alone = sum(subject(subjects[a]) != subject(subjects[b]) for a, b in pairwise(drawn))
    assert changes <= 41 / size + 3 < alone
    assert len({subject(subjects[row]) for row in rows}) >= min(20, 41 // size) * 2 / 3  # from all over the corpus


def test_the_draw_decides_the_neighbourhoods(subjects):
    drawn = sample_seeds(subjects, 40, seed=0)
    assert gather(subjects, drawn, 8, seed=0) == gather(subjects, drawn, 8, seed=0)
    assert gather(subjects, drawn, 8, seed=0) != gather(subjects, sample_seeds(subjects, 40, seed=1), 8, seed=0)


def test_all_passages_and_neighbourhoods_larger_than_the_draw(subjects):
    everything = sample_seeds(subjects, None, seed=0)
    assert sorted(gather(subjects, everything, 8, seed=0)) == list(range(200))
    few = gather(subjects, sample_seeds(subjects, 3, seed=0), 64, seed=0)
    assert len(set(few)) == 3


def test_without_common_words_the_draw_stays_what_it_is():
    corpus = Corpus([Passage(str(n), None, f"word{n} other{n}") for n in range(50)])
    drawn = sample_seeds(corpus, 10, seed=0)
    assert sorted(gather(corpus, drawn, 8, seed=0)) == sorted(drawn)
