"""Reading passages from folders of text, tables and hub data sets; errors name the file and the row."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import (
    HUB,
    TABLE_SUFFIXES,
    Record,
    files_below,
    read_hub,
    read_lines,
    read_table,
    table_kind,
    unreadable,
    user_path,
)
from gecko_fret.corpus import markup_2
from gecko_fret.corpus.markup import Section, html_sections, markdown_sections
from gecko_fret.corpus.passages import Dropped, Passage
from gecko_fret.corpus.splitting import count_words, split_text
from gecko_fret.sentences import ends_sentence
from gecko_fret.text_rules import LATEST, TextRules

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".html", ".htm")
_COLUMNS = ("id", "_id", "title", "text", "source")
_MAX_TITLE_WORDS = 20
_MARKUP = 3  # version of the text rules from which ``markup`` reads Markdown and HTML
_GOING_ON = (*":;,：；、，،؛",)


def corpus_name(spec: str | Path) -> str:
    """A short name for reports: that of the file or folder."""
    text = str(spec)
    return text if text.startswith(HUB) else Path(text).resolve().name


def read_passages(
    spec: str | Path, split: str = "auto", rules: TextRules = LATEST, *, dropped: list[Dropped] | None = None
) -> Iterator[Passage]:
    """Passages of a folder, a table or a hub data set, one at a time, in a fixed order.

    Args:
        spec: a folder of text files, a text file, a table (.jsonl, .csv, .tsv, each also as .gz; .parquet), or
            "hub:NAME[:SPLIT]".
        split: "auto" cuts text files into passages and keeps the rows of tables whole; "always"; "never".
        rules: what a sentence is, where text is cut, and how Markdown and HTML are read.
        dropped: receives the hidden files and folders of a folder, which are left out then; None: they are read, too.

    Raises:
        DataError: the corpus cannot be read; one line that names the file and the row.
    """
    text = str(spec)
    if text.startswith(HUB):
        name, _, part = text.removeprefix(HUB).partition(":")
        return _from_records(read_hub(name, part or "train"), text, split, rules)
    path = corpus_path(spec)
    if path.is_dir():
        return _read_folder(path, split, rules, dropped)
    if table_kind(path):
        records = read_table(path, need=("text",), optional=_COLUMNS[:4], only=_COLUMNS)
        return _from_records(records, str(path), split, rules)
    if path.suffix.lower() in TEXT_SUFFIXES:
        return _read_text_file(path, path.name, split, rules)
    suffixes = ", ".join(TABLE_SUFFIXES + TEXT_SUFFIXES)
    raise DataError(
        f"{path}: cannot read '{path.suffix.lower() or 'no suffix'}'; use {suffixes} (.jsonl, .csv and .tsv also .gz)"
    )


def corpus_path(spec: str | Path) -> Path:
    """The file or folder of a corpus that is neither of the hub nor the interpreter's documentation.

    Args:
        spec: its name.

    Raises:
        DataError: it has no name, is not there, or may not be read.
    """
    if not str(spec).strip():
        raise DataError("the corpus has an empty name; give a folder, a file, hub:NAME or python-docs")
    path = user_path(spec)
    _check_name(path)
    try:
        exists = path.exists()
    except OSError as error:  # a parent folder that may not be entered, or a name that is too long
        raise unreadable(path, error) from None
    if not exists:
        raise DataError(
            f"{path}: no such corpus; give a folder, a .jsonl, .csv, .tsv or .parquet file, or 'python-docs'"
        )
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise DataError(f"{path}: may not be read; see its permissions, or name another corpus")
    return path


def _read_folder(folder: Path, split: str, rules: TextRules, dropped: list[Dropped] | None = None) -> Iterator[Passage]:
    hidden: list[Path] | None = None if dropped is None else []
    files = files_below(folder, TEXT_SUFFIXES, hidden=hidden)
    if not files:
        kind = "file that is not hidden" if hidden else "file"
        raise DataError(f"{folder}: no {', '.join(TEXT_SUFFIXES)} {kind} in this folder")
    if dropped is not None:
        names = sorted(path.relative_to(folder).as_posix() for path in hidden or ())
        dropped += [Dropped(name, "hidden", "its name starts with a full stop; rename it", "") for name in names]
    for path in files:
        _check_name(path)
    for path in files:
        yield from _read_text_file(path, path.relative_to(folder).as_posix(), split, rules)


def _check_name(path: Path) -> None:
    """Refuse a path that is not UTF-8: ids and sources are made of names, and are text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise DataError(f"{shown}: the name is not UTF-8; rename the file or folder") from None


def _read_text_file(path: Path, name: str, split: str, rules: TextRules) -> Iterator[Passage]:
    sections = _sections(path, rules)
    source = name.rpartition("/")[0] or None
    if split == "never":
        title = next((heading for heading, _ in sections if heading), None)
        body = "\n\n".join(part for part in (body.strip() for _, body in sections) if part)
        if body:
            yield Passage(name, title, body, source)
        return
    number = 0
    for title, body in sections:
        for piece in split_text(body, rules=rules):
            yield Passage(f"{name}#{number}", title, piece, source)
            number += 1


def _sections(path: Path, rules: TextRules) -> list[Section]:
    """(title, text) of a text file's sections."""
    text = "\n".join(line for _, line in read_lines(path, prose=True))
    if "\n" not in text:  # of a file whose lines end in carriage returns alone, as on old Macs
        text = text.replace("\r", "\n")
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return [_plain_title(text)]
    if suffix not in (".html", ".htm"):
        return (markup_2.markdown_sections if rules.version < _MARKUP else markdown_sections)(text)
    try:
        return _page_2(text) if rules.version < _MARKUP else html_sections(text)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as HTML ({error}); correct the page or leave it out") from None


def _page_2(text: str) -> list[Section]:
    return markup_2.markdown_sections(markup_2.html_to_markdown(text))


def _plain_title(text: str) -> tuple[str | None, str]:
    """A short first line that stands alone above the text is its title."""
    first, _, body = text.strip().partition("\n\n")
    if (
        body.strip()
        and "\n" not in first
        and count_words(first) <= _MAX_TITLE_WORDS
        and not (ends_sentence(first) or first[-1:] in _GOING_ON)
    ):
        return first.strip(), body
    return None, text


def _from_records(records: Iterable[Record], where: str, split: str, rules: TextRules) -> Iterator[Passage]:
    seen: dict[str, int] = {}
    why = ""
    for place, record in enumerate(records):
        identifier, text = record.identifier("id", "_id"), _text(record)
        if identifier is None:
            identifier = str(place)  # as gecko-embed numbers them; a blank line is no row
            why = " (a row without one gets its number, from 0)"
        _note_id(identifier, seen, record.number, where, why)
        title, source = ((record.optional_text(key) or "").strip() or None for key in ("title", "source"))
        if split != "always":
            yield Passage(identifier, title, text, source)
            continue
        pieces = split_text(text, rules=rules)
        names = [identifier] if len(pieces) == 1 else [f"{identifier}#{number}" for number in range(len(pieces))]
        for name, piece in zip(names, pieces, strict=True):
            if name != identifier:
                _note_id(name, seen, record.number, where, " (the pieces of a row are ID#0, ID#1, ...)")
            yield Passage(name, title, piece, source)


def _note_id(identifier: str, seen: dict[str, int], number: int, where: str, why: str = "") -> None:
    """Remember the row of an id.

    Raises:
        DataError: another row has it.
    """
    if identifier in seen:
        rows = f"{seen[identifier]} and {number}"
        raise DataError(f"{where}: id {identifier!r} is used in rows {rows}{why}; ids must differ")
    seen[identifier] = number


def _text(record: Record) -> str:
    text = record.text("text")
    if not text.strip():
        raise DataError(f"{record.where}: 'text' is empty; every row needs its text in 'text'")
    return text
