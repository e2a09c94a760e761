"""Telling languages apart, for the corpus' and the queries' language filter."""

from __future__ import annotations

from gecko_core.errors import ConfigError

_MIN_LETTERS = 20


def looks_like(text: str, language: str) -> bool:
    """Whether langid takes `text` for `language` (ISO 639-1). Fewer than 20 letters pass: too little to tell.

    Raises `ConfigError` when py3langid is not installed.
    """
    try:
        import py3langid
    except ImportError:
        raise ConfigError("the language filter needs py3langid; pip install 'gecko-fret[language]'") from None
    if sum(c.isalpha() for c in text) < _MIN_LETTERS:
        return True
    return py3langid.classify(text)[0] == language
