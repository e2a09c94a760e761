"""Scores of a part in the making: kept to the bit, taken by equal batches alone, and never in the way."""

import random

import pytest

from gecko_fret.llm.kept import KeptScores, scored_once, scores_kept
from gecko_fret.llm.protocol import ScoreRequest
from gecko_fret.llm.transformers import TransformersLLM

PREFIX = "Passage: a cat sat on the mat.\nQuery: where is the cat\n\n"
LABELS = [" 0", " 1", " 2", " 3", " 4"]
WORDS = ["the", "a", "cat", "sat", "on", "mat", "dog", "ran", "far", "what", "is", "where", "query", "task"]
VALUES = [(-1.1, (0.1, 0.9)), (0.1 + 0.2, ()), (-1e-300, (1.0,))]


class PowerCut(Exception):
    pass


def requests(contexts=12):
    draw = random.Random(3)
    return [
        ScoreRequest(PREFIX, f"Passage: {' '.join(draw.choices(WORDS, k=4 + number))}\nQuery:", f" {word} is")
        for number in range(contexts)
        for word in draw.sample(WORDS, 1 + number % 3)
    ]


def llm(model, tokenizer, fingerprint="t"):
    return TransformersLLM(model, tokenizer, name="t", fingerprint=fingerprint, batch_tokens=64, batch_rows=4)


class Forwards:
    """Counts a backend's passes; the one with number ``cut`` fails."""

    def __init__(self, monkeypatch, backend, cut=None):
        self.count, self._cut, self._forward = 0, cut, backend._decoder.forward
        monkeypatch.setattr(backend._decoder, "forward", self)

    def __call__(self, *args):
        self.count += 1
        if self.count == self._cut:
            raise PowerCut
        return self._forward(*args)


@pytest.mark.parametrize("labels", [(), LABELS], ids=["likelihood", "labels"])
@pytest.mark.parametrize("blocks", [False, True])
def test_scoring_goes_on_after_the_last_batch_to_the_same_bits(
    tiny_model, word_tokenizer, tmp_path, monkeypatch, blocks, labels
):
    whole = llm(tiny_model, word_tokenizer)
    passes = Forwards(monkeypatch, whole)
    wanted = whole.score(requests(), labels, blocks=blocks)
    path = tmp_path / "partial" / "score-00000.txt"
    killed = llm(tiny_model, word_tokenizer)
    Forwards(monkeypatch, killed, cut=passes.count - 2)
    with pytest.raises(PowerCut), scores_kept(path):
        killed.score(requests(), labels, blocks=blocks)
    assert path.exists()
    again = llm(tiny_model, word_tokenizer)
    left = Forwards(monkeypatch, again)
    with scores_kept(path):
        assert again.score(requests(), labels, blocks=blocks) == wanted
    assert 0 < left.count < passes.count / 2
    assert again.usage == whole.usage
    assert not path.parent.exists()


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("what", ["model", "labels", "requests"])
def test_other_models_labels_and_requests_take_nothing(tiny_model, word_tokenizer, tmp_path, monkeypatch, what, blocks):
    path = tmp_path / "scores.txt"
    first = llm(tiny_model, word_tokenizer)
    Forwards(monkeypatch, first, cut=5)
    with pytest.raises(PowerCut), scores_kept(path):
        first.score(requests(), LABELS, blocks=blocks)
    other = llm(tiny_model, word_tokenizer, "u" if what == "model" else "t")
    labels = LABELS[::-1] if what == "labels" else LABELS
    asked = [*requests()[:-1], ScoreRequest(PREFIX, "Passage: a dog ran\nQuery:", " where")]
    asked = asked if what == "requests" else requests()
    passes = Forwards(monkeypatch, other)
    with scores_kept(path):
        scored = other.score(asked, labels, blocks=blocks)
    assert passes.count > (3 if what == "requests" else 5)
    assert scored == llm(tiny_model, word_tokenizer).score(asked, labels, blocks=blocks)


def test_what_is_read_is_what_was_written(tmp_path):
    kept = KeptScores(tmp_path / "a" / "b.txt")
    kept.put("key", VALUES)
    kept.put("other", [(float("-inf"), ())])
    kept.close()
    again = KeptScores(tmp_path / "a" / "b.txt")
    assert again.get("key") == VALUES
    assert again.get("other") == [(float("-inf"), ())]
    assert again.get("third") is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_was_cut_off_is_made_again_and_spoils_no_other(tmp_path, cut):
    path = tmp_path / "scores.txt"
    for key in ("first", "second"):
        kept = KeptScores(path)
        kept.put(key, VALUES)
        kept.close()
    path.write_bytes(path.read_bytes()[:-cut])
    kept = KeptScores(path)
    assert kept.get("first") == VALUES
    assert kept.get("second") == (VALUES if cut == 1 else None)
    kept.put("third", VALUES)
    kept.close()
    again = KeptScores(path)
    assert again.get("first") == again.get("third") == VALUES


@pytest.mark.parametrize("content", [b"\xff\xfe", b"00000000 [1]\n", b"zz\n\n  \n", b"\0" * 40])
def test_what_is_no_line_of_ours_is_passed_over(tmp_path, content):
    path = tmp_path / "scores.txt"
    path.write_bytes(content)
    kept = KeptScores(path)
    kept.put("key", VALUES)
    kept.close()
    assert kept.get("key") is None  # of an earlier run alone


@pytest.mark.parametrize("what", ["folder", "link", "file above"])
def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, what):
    path = tmp_path / "partial" / "scores.txt"
    if what == "file above":
        (tmp_path / "partial").write_text("mine")
    elif what == "folder":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir()
        (tmp_path / "mine.txt").write_text("mine")
        path.symlink_to(tmp_path / "mine.txt")
    with scores_kept(path):
        assert scored_once("batch", lambda: VALUES) == VALUES
        assert scored_once("batch", lambda: VALUES[:1]) == VALUES[:1]
    assert what == "folder" or next(tmp_path.rglob("mine.txt"), tmp_path / "partial").read_text() == "mine"


def test_outside_of_a_part_nothing_is_kept():
    assert scored_once("batch", lambda: VALUES[:1]) == VALUES[:1]
    assert scored_once("batch", lambda: VALUES) == VALUES
