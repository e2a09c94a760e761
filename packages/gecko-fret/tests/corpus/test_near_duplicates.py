import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_fret.corpus.near_duplicates import NearDuplicates

WORDS = [f"word{i}" for i in range(100)]


def test_nearly_equal_texts_are_found():
    pytest.importorskip("datasketch")
    near = NearDuplicates(0.8)
    assert near.find_or_add("a", " ".join(WORDS)) is None
    assert near.find_or_add("b", " ".join([*WORDS[:-1], "other"])) == "a"
    assert near.find_or_add("c", " ".join(WORDS[:50])) is None
    assert near.find_or_add("d", " ".join(reversed(WORDS))) is None


def test_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigError, match=r"pip install 'gecko-fret\[near\]'"):
        NearDuplicates()
