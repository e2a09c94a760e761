import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_fret import language


def test_languages_are_told_apart():
    pytest.importorskip("py3langid")
    english = "The gecko is a small lizard that lives in warm places all over the world."
    german = "Der Gecko ist eine kleine Echse, die in warmen Gegenden der ganzen Welt lebt."
    assert language.looks_like(english, "en")
    assert not language.looks_like(german, "en")
    assert language.looks_like(german, "de")


def test_short_texts_pass():
    assert language.looks_like("Hallo Welt", "en")


def test_missing_library_is_one_line(monkeypatch):
    language.identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[language\]'"):
        language.looks_like("A text that is long enough to be judged.", "en")
    language.identifier.cache_clear()
