import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.corpus.language import looks_like


def test_languages_are_told_apart():
    pytest.importorskip("py3langid")
    english = "The gecko is a small lizard that lives in warm places all over the world."
    german = "Der Gecko ist eine kleine Echse, die in warmen Gegenden der ganzen Welt lebt."
    assert looks_like(english, "en")
    assert not looks_like(german, "en")
    assert looks_like(german, "de")
    assert looks_like("Hallo Welt", "en")  # too short to tell


def test_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[language\]'"):
        looks_like("A text that is long enough to be judged.", "en")
