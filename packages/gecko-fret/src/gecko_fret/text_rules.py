"""What equal texts, words, sentences and headings are, by version: a folder keeps the rules it was begun with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gecko_core.text_identity import text_key, words_key
from gecko_core.text_words import text_words, text_words_2
from gecko_fret.sentences import split_sentences, split_sentences_1
from gecko_fret.text_rules_sentences import split_sentences_3


@dataclass(frozen=True)
class TextRules:
    """Rules of one version.

    Attributes:
        version: its number. From 3 on, Markdown and HTML are read by ``gecko_fret.corpus.markup``, before by its
            ``markup_2``; they are told apart there, since the package of corpora knows this module.
        key: texts with equal keys are the same text.
        words: of a text, for telling how much of it stands in another.
        sentences: of a text, where passages are cut.
        asked: sentences of a text that stand for queries; those of version 2 for version 1, too.
        own_titles: of the titles, those stand for queries that one passage alone has.
    """

    version: int
    key: Callable[[str], str]
    words: Callable[[str], list[str]]
    sentences: Callable[[str], list[str]]
    asked: Callable[[str], list[str]]
    own_titles: bool = True


def _words_1(text: str) -> list[str]:
    return words_key(text).split()


#: 1: version 0.1, which knows Latin, Cyrillic and Chinese only and takes "C++" for "C". 2: all scripts, by Unicode.
#: 3: words with joiners are whole; initials, ordinals and Thai repeats end no sentence; CommonMark's fences and titles;
#: a title that several passages have is no query.
RULES = {
    1: TextRules(1, words_key, _words_1, split_sentences_1, split_sentences, own_titles=False),
    2: TextRules(2, text_key, text_words_2, split_sentences, split_sentences, own_titles=False),
    3: TextRules(3, text_key, text_words, split_sentences_3, split_sentences_3),
}
LATEST = RULES[3]
