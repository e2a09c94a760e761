"""Leaving passages out of a corpus: repeats, near-duplicates, other languages. Everything left out is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import ConfigError
from gecko_fret.corpus.passages import Dropped, Passage
from gecko_fret.text_rules import LATEST, TextRules

_MIN_LETTERS = 20
_PERMUTATIONS = 128
_GRAM = 3


def clean_passages(
    passages: Iterable[Passage],
    dropped: list[Dropped],
    *,
    deduplicate: str = "exact",
    near_threshold: float = 0.85,
    language: str | None = None,
    rules: TextRules = LATEST,
) -> Iterator[Passage]:
    """Pass on the passages that are kept, in order, and list the others in ``dropped``.

    Args:
        passages: the passages.
        dropped: receives every passage that is left out, with its reason.
        deduplicate: "none", "exact" (equal but for case and white space; 16 bytes are kept per passage) or "near"
            (exact, then MinHash over word 3-grams).
        near_threshold: estimated Jaccard similarity from which two texts are near-duplicates.
        language: keep only passages in this language (ISO 639-1).
        rules: what equal texts and words are.

    Yields:
        The passages that are kept.

    Raises:
        ConfigError: an unknown ``deduplicate``, or a package that an option needs is not installed.
    """
    if deduplicate not in ("none", "exact", "near"):
        raise ConfigError(f"corpus.deduplicate: {deduplicate!r} is unknown; use none, exact or near")
    seen: dict[bytes, str] = {}
    near = NearDuplicates(near_threshold, rules) if deduplicate == "near" else None
    for passage in passages:
        reason = (
            _other_language(passage, language)
            or (_repeat(passage, seen, rules) if deduplicate != "none" else None)
            or _near_duplicate(passage, near)
        )
        if reason:
            dropped.append(Dropped(passage.id, *reason, passage.text))
        else:
            yield passage


def _other_language(passage: Passage, language: str | None) -> tuple[str, str] | None:
    if language is None or looks_like(passage.text, language):
        return None
    return "language", f"does not look like {language!r}"


def _repeat(passage: Passage, seen: dict[bytes, str], rules: TextRules) -> tuple[str, str] | None:
    key = hashlib.blake2b(rules.key(passage.text).encode(), digest_size=16).digest()
    if key in seen:
        return "duplicate", f"same text as {seen[key]}"
    seen[key] = passage.id
    return None


def _near_duplicate(passage: Passage, near: NearDuplicates | None) -> tuple[str, str] | None:
    earlier = near.find_or_add(passage.id, passage.text) if near else None
    return None if earlier is None else ("near_duplicate", f"nearly the text of {earlier}")


def check_language(key: str, language: str | None) -> None:
    """Check that texts can be told to be in a language; None is always possible.

    Args:
        key: of the configuration, for the message.
        language: its value.

    Raises:
        ConfigError: py3langid is not installed, or does not know the language: every text would be of another one.
    """
    if language is None:
        return
    known = sorted({name for name, _ in _langid().rank("")})
    if language not in known:
        meant = language.lower().replace("_", "-").partition("-")[0]
        cure = f"use {meant}" if meant in known else "use its code of two letters (ISO 639-1), such as en or de"
        raise ConfigError(f"{key}: {language!r} is no language that can be told; {cure}")


def looks_like(text: str, language: str) -> bool:
    """Whether langid identifies ``text`` as ``language`` (ISO 639-1). Fewer than 20 letters always pass.

    Raises:
        ConfigError: py3langid is not installed.
    """
    py3langid = _langid()
    if sum(character.isalpha() for character in text) < _MIN_LETTERS:
        return True
    return py3langid.classify(text)[0] == language


def _langid() -> Any:
    try:
        import py3langid
    except ImportError:
        raise ConfigError("the language filter needs py3langid; pip install 'gecko-fret[language]'") from None
    return py3langid


class NearDuplicates:
    """MinHash with locality-sensitive hashing over word 3-grams (datasketch); the earlier of two texts is kept.

    Args:
        threshold: estimated Jaccard similarity of the 3-gram sets from which two texts count as the same.
        rules: what words are.

    Raises:
        ConfigError: datasketch is not installed.
    """

    def __init__(self, threshold: float = 0.85, rules: TextRules = LATEST):
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ConfigError("corpus.deduplicate near: needs datasketch; pip install 'gecko-fret[near]'") from None
        self._minhash, self._threshold, self._words = MinHash, threshold, rules.words
        self._index: Any = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
        self._sketches: dict[str, Any] = {}
        self._order: dict[str, int] = {}

    def find_or_add(self, identifier: str, text: str) -> str | None:
        """The id of the earliest text that is nearly this one; where there is none, this one is remembered."""
        # Texts without a word are told apart by their characters.
        words = self._words(text) or list("".join(text.split()))
        sketch = self._minhash(num_perm=_PERMUTATIONS, seed=1)
        for start in range(max(len(words) - _GRAM + 1, 1)):
            sketch.update(" ".join(words[start : start + _GRAM]).encode())
        near = [key for key in self._index.query(sketch) if self._sketches[key].jaccard(sketch) >= self._threshold]
        if near:
            return min(near, key=self._order.__getitem__)
        self._index.insert(identifier, sketch)
        self._order[identifier] = len(self._sketches)
        self._sketches[identifier] = sketch
        return None
