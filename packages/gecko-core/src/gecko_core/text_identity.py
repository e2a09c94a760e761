"""When two texts are the same text."""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["text_id", "text_key", "words_key"]


def text_key(text: str) -> str:
    """The text with differences of case and white space removed, in Unicode's NFC: equal keys are equal texts.

    Nothing else is taken off: "C" and "C++", "5 °C" and "-5 °C", "m2" and "m²", and words that differ in a vowel sign
    are different texts.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.split())


def text_id(*parts: str | None) -> int:
    """63-bit id of a text given in parts (a title and a body); empty parts do not count.

    63 bits, because ids travel as int64 and never need a sign; among a million texts the chance that any two
    different ones collide is about 5e-8.
    """
    joined = " ".join(part for part in parts if part)
    digest = hashlib.blake2b(text_key(joined).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def words_key(text: str) -> str:
    """Lower-case words (letters, digits and underscores) with single spaces: what FRet 0.1 took for equality.

    It takes "C++" and "c" for the same text, and words of Hindi or Thai that differ in their vowel signs. Only folders
    that were begun with it still use it (`gecko_fret.text_rules`).
    """
    return " ".join(re.findall(r"\w+", text.lower()))
