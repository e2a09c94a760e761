"""Corpora: passages, and how they are read, split, cleaned and checked for contamination."""

from __future__ import annotations

from gecko_fret.corpus.load import check_corpus, load_corpus, python_docs
from gecko_fret.corpus.passages import Corpus, Dropped, Passage
from gecko_fret.corpus.readers import TEXT_SUFFIXES
from gecko_fret.corpus.splitting import count_words
from gecko_fret.sentences import split_sentences

__all__ = [
    "TEXT_SUFFIXES",
    "Corpus",
    "Dropped",
    "Passage",
    "check_corpus",
    "count_words",
    "load_corpus",
    "python_docs",
    "split_sentences",
]
