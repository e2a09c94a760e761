"""Finding passages that are nearly the text of an earlier one."""

from __future__ import annotations

from typing import Any

from gecko_core.errors import ConfigError
from gecko_core.text_identity import words_key

_PERMUTATIONS = 128
_GRAM = 3


class NearDuplicates:
    """MinHash with locality-sensitive hashing over word 3-grams (datasketch), earlier texts win.

    threshold: Jaccard similarity of the 3-gram sets, estimated, from which two texts count as the same.
    """

    def __init__(self, threshold: float = 0.85):
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError:
            raise ConfigError("corpus.deduplicate near: needs datasketch; pip install 'gecko-fret[near]'") from None
        self._minhash, self._threshold = MinHash, threshold
        self._index: Any = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
        self._hashes: dict[str, Any] = {}

    def find_or_add(self, identifier: str, text: str) -> str | None:
        """The id of the earliest text that is nearly this one; if there is none, remembers this one."""
        words = words_key(text).split()
        sketch = self._minhash(num_perm=_PERMUTATIONS, seed=1)
        for start in range(max(len(words) - _GRAM + 1, 1)):
            sketch.update(" ".join(words[start : start + _GRAM]).encode())
        near = [key for key in self._index.query(sketch) if self._hashes[key].jaccard(sketch) >= self._threshold]
        if near:
            order = {key: place for place, key in enumerate(self._hashes)}
            return min(near, key=order.__getitem__)
        self._index.insert(identifier, sketch)
        self._hashes[identifier] = sketch
        return None
