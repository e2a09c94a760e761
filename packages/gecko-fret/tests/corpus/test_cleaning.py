import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.corpus.cleaning import NearDuplicates, check_language, clean_passages, looks_like
from gecko_fret.corpus.passages import Passage

WORDS = [f"word{i}" for i in range(100)]


def test_nearly_equal_texts_are_found():
    pytest.importorskip("datasketch")
    near = NearDuplicates(0.8)
    assert near.find_or_add("a", " ".join(WORDS)) is None
    assert near.find_or_add("b", " ".join([*WORDS[:-1], "other"])) == "a"
    assert near.find_or_add("c", " ".join(WORDS[:50])) is None
    assert near.find_or_add("d", " ".join(reversed(WORDS))) is None
    assert near.find_or_add("e", "???") is None
    assert near.find_or_add("f", "!!!") is None  # no word in either
    assert near.find_or_add("g", "? ??") == "e"


def test_missing_datasketch_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[near\]'"):
        NearDuplicates()


def test_languages_are_told_apart():
    pytest.importorskip("py3langid")
    english = "The gecko is a small lizard that lives in warm places all over the world."
    german = "Der Gecko ist eine kleine Echse, die in warmen Gegenden der ganzen Welt lebt."
    assert looks_like(english, "en")
    assert not looks_like(german, "en")
    assert looks_like(german, "de")
    assert looks_like("Hallo Welt", "en")  # too short to tell


def test_missing_langid_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[language\]'"):
        looks_like("A text that is long enough to be judged.", "en")


def test_a_language_that_nobody_can_tell_is_refused():
    """Every text would be of another one, and be left out."""
    pytest.importorskip("py3langid")
    for language in (None, "en", "de", "zh"):
        check_language("corpus.language", language)
    for language, cure in (
        ("zz", "code of two"),
        ("EN", "use en$"),
        ("pt_BR", "use pt$"),
        ("english", "code"),
        ("", "code"),
    ):
        with pytest.raises(ConfigError, match=f"generate.language: '{language}' is no language .*{cure}"):
            check_language("generate.language", language)


def test_everything_left_out_is_listed_with_its_reason(monkeypatch):
    monkeypatch.setattr("gecko_fret.corpus.cleaning.looks_like", lambda text, language: "chat" not in text)
    texts = {"a": "A cat sat.", "b": "un chat", "c": "a CAT  sat.", "d": "A dog ran."}
    dropped = []
    passages = (Passage(identifier, None, text) for identifier, text in texts.items())
    kept = list(clean_passages(passages, dropped, language="en"))
    assert [passage.id for passage in kept] == ["a", "d"]
    assert [(d.id, d.reason, d.detail) for d in dropped] == [
        ("b", "language", "does not look like 'en'"),
        ("c", "duplicate", "same text as a"),
    ]


def test_near_duplicates_name_the_earliest_text():
    pytest.importorskip("datasketch")
    dropped = []
    texts = [" ".join(WORDS), " ".join([*WORDS[:-1], "other"]), " ".join([*WORDS[:-1], "another"])]
    passages = (Passage(str(number), None, text) for number, text in enumerate(texts))
    kept = list(clean_passages(passages, dropped, deduplicate="near", near_threshold=0.8))
    assert [passage.id for passage in kept] == ["0"]
    assert [d.detail for d in dropped] == ["nearly the text of 0"] * 2
