"""Loading a corpus: read, clean, limit."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import HUB
from gecko_fret.corpus.cleaning import check_language, clean_passages
from gecko_fret.corpus.docstrings import documentation_passages
from gecko_fret.corpus.passages import Corpus, Dropped
from gecko_fret.corpus.readers import corpus_name, read_passages
from gecko_fret.text_rules import LATEST, TextRules

PYTHON_DOCS = "python-docs"


def check_corpus(spec: str | Path | None = None) -> None:
    """Check that a corpus is there and begins with what can be read; one of the hub is not looked for.

    Args:
        spec: see ``load_corpus``.

    Raises:
        DataError: it is not there, may not be read, or is no corpus by its name, its columns or its first row.
    """
    if spec is not None and str(spec) != PYTHON_DOCS and not str(spec).startswith(HUB):
        next(read_passages(spec, "never", dropped=[]), None)


def load_corpus(
    spec: str | Path | None = None,
    *,
    split: str = "auto",
    deduplicate: str = "exact",
    near_threshold: float = 0.85,
    language: str | None = None,
    limit: int | None = None,
    rules: TextRules = LATEST,
) -> Corpus:
    """Load a corpus.

    Args:
        spec: None or "python-docs" for the interpreter's documentation; a folder of .txt, .md and .html files, of
            which hidden ones, and those in hidden folders, are left out and listed in ``Corpus.dropped``; a
            .jsonl, .csv, .tsv or .parquet file with ``text`` and optional ``id``, ``title``, ``source``;
            "hub:NAME[:SPLIT]" for a data set of the hub.
        split: "auto" cuts files into passages of 40 to 250 words and keeps the rows of tables whole; "always"; "never".
        deduplicate: "exact" (the first of equal texts stays), "near" (MinHash, at ``near_threshold``) or "none".
        near_threshold: estimated Jaccard similarity from which two texts are near-duplicates.
        language: keep only passages in this language (ISO 639-1 code); see ``cleaning.looks_like``.
        limit: read only the first ``limit`` passages.
        rules: what equal texts, words, sentences and headings are.

    Raises:
        DataError: the corpus cannot be read or holds no passage; one line that names the file and the row.
        ConfigError: an unknown ``deduplicate``, a language that cannot be told, or a package that an option needs is
            not installed.
    """
    if spec is None or str(spec) == PYTHON_DOCS:
        return python_docs(limit=limit, rules=rules)
    check_language("corpus.language", language)
    dropped: list[Dropped] = []
    passages = clean_passages(
        read_passages(spec, split, rules, dropped=dropped),
        dropped,
        deduplicate=deduplicate,
        near_threshold=near_threshold,
        language=language,
        rules=rules,
    )
    corpus = Corpus(islice(passages, limit), corpus_name(spec), dropped)
    if not len(corpus):
        raise DataError(f"{spec}: {_why_empty(dropped)}")
    return corpus


def _why_empty(dropped: list[Dropped]) -> str:
    """Why a corpus has no passage, and what to do."""
    if not dropped:
        return "the corpus holds no passage; give a folder or file with some text in it"
    reasons = Counter(left_out.reason for left_out in dropped)
    counted = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    first = dropped[0]
    said = f"; {first.id}: {first.detail}" if first.detail else ""
    return f"the corpus holds no passage: all {len(dropped)} were left out ({counted}{said}); see corpus.*"


def python_docs(limit: int | None = None, rules: TextRules = LATEST) -> Corpus:
    """The interpreter's documentation: language topics and docstrings of the standard library, thousands of passages.

    Titles are topic headings and the summary lines of docstrings. The result is deterministic for one installation of
    Python, and nothing is imported or run to read it. Passages whose text repeats an earlier one are left out.

    Args:
        limit: read only the first ``limit`` passages.
        rules: what equal texts and sentences are.
    """
    dropped: list[Dropped] = []
    return Corpus(
        islice(clean_passages(documentation_passages(rules), dropped, rules=rules), limit), PYTHON_DOCS, dropped
    )
