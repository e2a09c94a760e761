"""Keeping evaluation sets out of training data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import below_data_dir, files_below, listed, read_table, table_kind, user_path
from gecko_fret.corpus.passages import Passage
from gecko_fret.corpus.readers import read_passages
from gecko_fret.text_rules import LATEST, TextRules

_GRAM = 13
_CONTAINMENT = 0.5
_BEIR = ("queries", "corpus")
_COLUMNS = ("title", "query", "text")


class Contamination:
    """Texts of evaluation sets, as hashes of the whole normalised text and of its 13-grams of words.

    A text is contaminated when its normalised form is one of theirs, or when at least half of its 13-grams are.

    Args:
        texts: (name of the evaluation set, text) pairs.
        rules: what words are.
    """

    def __init__(self, texts: Iterable[tuple[str, str]], rules: TextRules = LATEST):
        self._words = rules.words
        self._whole: dict[int, str] = {}
        self._grams: set[int] = set()
        for name, text in texts:
            if words := self._words(text):
                self._whole.setdefault(_hash(" ".join(words)), name)
                self._grams.update(_grams(words))

    @classmethod
    def load(cls, sources: Iterable[str], rules: TextRules = LATEST) -> Contamination:
        """Read evaluation sets.

        Args:
            sources: folders in BEIR layout (queries and corpus), tables with columns `query` or `text` or both, files
                of texts, each of which counts as a whole and line by line, or folders of such files.
            rules: what words are.

        Raises:
            DataError: a source cannot be read.
        """
        return cls(((Path(source).name, text) for source in sources for text in _texts(source, rules)), rules)

    def find_passage(self, passage: Passage) -> str | None:
        """Why a passage is contaminated, with its title or without, or None."""
        return self.find(passage.full_text) or (self.find(passage.text) if passage.title else None)

    def find(self, text: str) -> str | None:
        """Why ``text`` is contaminated, or None."""
        words = self._words(text)
        if not words:
            return None
        source = self._whole.get(_hash(" ".join(words)))
        if source is not None:
            return f"equals a text of {source}"
        grams = list(_grams(words))
        shared = sum(gram in self._grams for gram in grams) / len(grams) if grams else 0.0
        return f"{shared:.0%} of its 13-grams are in the evaluation sets" if shared >= _CONTAINMENT else None


def content_fingerprint(source: str) -> str:
    """Hash of an evaluation set's name and of every file that ``Contamination.load`` reads of it.

    Raises:
        DataError: there is no such evaluation set.
    """
    digest = hashlib.sha256(Path(source).name.encode())
    for path in _paths(source):
        files = files_below(path) if path.is_dir() else [path]
        for file in files:
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _paths(source: str) -> list[Path]:
    """The tables of a folder in BEIR layout, or the file or folder itself."""
    folder = below_data_dir(user_path(source))
    if not folder.exists():
        raise DataError(f"{source}: no such evaluation set, also not below GECKO_DATA_DIR (mine.decontaminate)")
    if not folder.is_dir():
        return [folder]
    beir = [path for name in _BEIR for path in sorted(folder.glob(f"{name}.*"))]
    unread = [folder / name for name in _BEIR if (folder / name).is_dir()] if beir else _tables(folder)
    if unread:
        raise DataError(
            f"{source}: {unread[0]} would not be read (mine.decontaminate): a folder holds queries.jsonl and "
            "corpus.jsonl, or text files alone; name such files one by one"
        )
    return beir or [folder]


def _tables(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if table_kind(path)]


def _texts(source: str, rules: TextRules) -> Iterator[str]:
    for path in _paths(source):
        if path.is_file() and table_kind(path):
            yield from _of_table(path)
            continue
        for passage in read_passages(path, split="never", rules=rules):
            yield passage.text
            yield from passage.text.splitlines()  # a file may hold a query a line
            if passage.title:
                yield passage.full_text


def _of_table(path: Path) -> Iterator[str]:
    for record in read_table(path, optional=_COLUMNS):
        if not any(name in record.fields for name in ("query", "text")):
            columns = listed(sorted(map(str, record.fields)))
            raise DataError(
                f"{record.where}: neither a 'query' nor a 'text' (columns: {columns}; mine.decontaminate); name one so"
            )
        title = record.optional_text("title")
        texts = [record.text(name) if record.fields.get(name) else "" for name in ("query", "text")]
        yield from filter(None, texts)
        if title:
            yield Passage("", title, texts[-1]).full_text


def _grams(words: list[str]) -> Iterator[int]:
    for start in range(len(words) - _GRAM + 1):
        yield _hash(" ".join(words[start : start + _GRAM]))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
