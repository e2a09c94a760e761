"""Telling languages apart, for the corpus' and the queries' language filter."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gecko_core.errors import ConfigError

_MIN_LETTERS = 20


def looks_like(text: str, language: str) -> bool:
    """Whether langid takes `text` for `language` (ISO 639-1). Fewer than 20 letters pass: too little to tell."""
    if sum(c.isalpha() for c in text) < _MIN_LETTERS:
        return True
    return identifier().classify(text)[0] == language


@lru_cache(maxsize=1)
def identifier() -> Any:
    """langid's model. Raises `ConfigError` when it is not installed."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ConfigError("the language filter needs py3langid; pip install 'gecko-fret[language]'") from None
    return LanguageIdentifier.from_pickled_model(MODEL_FILE, norm_probs=True)
