"""Leaving passages out of a corpus: repeats, near-repeats, other languages. Whatever is left out is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from gecko_core.errors import ConfigError
from gecko_core.text_identity import words_key
from gecko_fret.corpus.passages import Dropped, Passage


def filter_passages(
    passages: Iterable[Passage],
    dropped: list[Dropped],
    *,
    deduplicate: str = "exact",
    near_threshold: float = 0.85,
    language: str | None = None,
) -> Iterator[Passage]:
    """Passes passages on, in order; what is left out is appended to `dropped` with its reason.

    deduplicate: "none", "exact" (equal under `words_key`; 16 bytes are kept per passage) or "near" (exact, then
        MinHash over word 3-grams with an estimated Jaccard similarity of at least `near_threshold`).
    """
    if deduplicate not in ("none", "exact", "near"):
        raise ConfigError(f"corpus.deduplicate: {deduplicate!r} is unknown; use none, exact or near")
    seen: dict[bytes, str] = {}
    near = None
    if deduplicate == "near":
        from gecko_fret.corpus.near_duplicates import NearDuplicates

        near = NearDuplicates(near_threshold)
    for passage in passages:
        if language is not None:
            from gecko_fret.corpus.language import looks_like

            if not looks_like(passage.text, language):
                dropped.append(Dropped(passage.id, "language", f"does not look like {language!r}", passage.text))
                continue
        if deduplicate != "none":
            key = hashlib.blake2b(words_key(passage.text).encode(), digest_size=16).digest()
            if key in seen:
                dropped.append(Dropped(passage.id, "duplicate", f"same text as {seen[key]}", passage.text))
                continue
            seen[key] = passage.id
        if near is not None:
            twin = near.find_or_add(passage.id, passage.text)
            if twin is not None:
                dropped.append(Dropped(passage.id, "near_duplicate", f"nearly the text of {twin}", passage.text))
                continue
        yield passage
