"""Sentences from version 3 of the text rules on: those of ``sentences``, put together where a cut was none.

Only joined, because a missed end costs little where a false one begins a sentence with "Oktober". The lists are short
and hold what stands before a capital letter or a number and seldom at an end: no "usw.", "и т. д." or "Jr.".
"""

from __future__ import annotations

import regex

from gecko_fret.sentences import split_sentences

_TAIL = 24  # characters at the end of a sentence; no abbreviation is longer
_BEFORE = r"(?<![\p{L}\p{M}\p{N}])"
_ABBREVIATION = regex.compile(
    r"(?V1)"
    # Initials of any script. In Korean, Chinese and Japanese one character may be a sentence, such as "네."
    rf"{_BEFORE}(?:[\p{{Lu}}\p{{Lt}}]|[\p{{Lo}}--[\p{{Hangul}}\p{{Han}}\p{{Hiragana}}\p{{Katakana}}]])\p{{M}}*\.$"
    rf"|{_BEFORE}(?:Capt|Col|Dott|Dra|EE|Gen|Gov|Hon|Hrn?|Ing|Lic|Lt|Mgr|Rep|Rev|Sen|Sgt|Sig|Sra?|Srta)\.$"
    rf"|{_BEFORE}(?:bijv|bzw|ca|dhr|evtl|ggf|inkl|mevr|np|sog|tzw|u|[Vv]gl|z|[Dd]\.\s?h|e\.\s?g|i\.\s?e)\.$"
    rf"|{_BEFORE}(?:акад|проф|т\.\s?е|ул)\.$"
    rf"|(?<!\p{{N}}\s?){_BEFORE}(?:г|см)\.$"  # town and "see"; behind a number they are years and centimetres
)
_BEFORE_NUMBER = regex.compile(
    rf"(?V1){_BEFORE}(?:Abb|Apr|Art|Aug|Bd|[Cc]ap|[Cc]hap|[Cc]h|Dec|Eqs?|Feb|[Ff]igs?|Jan|Jul|Jun|Kap|Mar|[Nn]r|Nov|Oct"
    r"|[Pp]p?|Sect?|Sept?|Tab|Thm|[Vv]ol|рис|стр)\.$"
)
_DAY = regex.compile(rf"(?V1){_BEFORE}\d{{1,2}}\.$")
_AFTER_DAY = regex.compile(
    r"(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jahrhundert)"
)
_REPEATS = ("ๆ", "ໆ", "ฯลฯ")  # "the word before once more" in Thai and Lao, and "and so on"


def split_sentences_3(text: str) -> list[str]:
    """Sentences of ``text`` in order, stripped; initials, abbreviations and German dates do not end one."""
    sentences: list[list[str]] = []
    for sentence in split_sentences(text):
        if sentences and _goes_on(sentences[-1][-1], sentence):
            sentences[-1].append(sentence)
        else:
            sentences.append([sentence])
    return [" ".join(parts) for parts in sentences]


def _goes_on(last: str, following: str) -> bool:
    tail = last[-_TAIL:]
    return (
        following.startswith(_REPEATS)
        or _ABBREVIATION.search(tail) is not None
        or (following[0].isdecimal() and _BEFORE_NUMBER.search(tail) is not None)
        or (_DAY.search(tail) is not None and _AFTER_DAY.match(following) is not None)
    )
