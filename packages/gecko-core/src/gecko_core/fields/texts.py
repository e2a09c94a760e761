"""The texts of documents' fields, read from a FRet folder: passages, their titles, the queries written for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import PartList, read_json, read_parts

#: Which written queries count, and for which document; see :func:`read_fields`.
Queries = Literal["answered", "all", "relabelled", "none"]
QUERIES: tuple[Queries, ...] = get_args(Queries)

_CHUNK = re.compile(r"(?P<document>.+)#\d+", re.DOTALL)
_CURE = "finish or repeat the build with gecko-fret build"


@dataclass(slots=True)
class DocumentTexts:
    """A document.

    Attributes:
        id: of the document.
        chunk_ids: ids of its passages, in the order of the corpus.
        chunks: their texts.
        titles: their titles, None where there is none.
        queries: what was written for it, in the order of the build, without repetitions.
    """

    id: str
    chunk_ids: list[str] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    titles: list[str | None] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    @property
    def distinct_titles(self) -> list[str]:
        """Its titles, each once: a document that was cut into chunks has the same title in all of them, or several."""
        return list(dict.fromkeys(title for title in self.titles if title))


class FieldTexts(Mapping[str, DocumentTexts]):
    """Documents by id, in the order of the corpus.

    Args:
        documents: the documents.
        queries: which queries they have.
        source: the folder that they are from.
    """

    def __init__(self, documents: Mapping[str, DocumentTexts], queries: Queries, source: str):
        self._documents, self.queries, self.source = dict(documents), queries, source

    def __getitem__(self, name: str) -> DocumentTexts:
        return self._documents[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all texts and ids: equal ones, equal vectors by the same model."""
        digest = hashlib.sha256()
        for document in self._documents.values():
            titles = [title or "" for title in document.titles]
            for group in ([document.id], document.chunk_ids, document.chunks, titles, document.queries):
                digest.update(len(group).to_bytes(8, "little"))
                for text in group:
                    raw = text.encode("utf-8", "surrogatepass")
                    digest.update(len(raw).to_bytes(8, "little") + raw)
        return digest.hexdigest()

    @property
    def counts(self) -> dict[str, int]:
        """Documents, chunks, titles and queries, and documents that have a query."""
        documents = self._documents.values()
        return {
            "documents": len(self),
            "chunks": sum(len(document.chunks) for document in documents),
            "titles": sum(len(document.distinct_titles) for document in documents),
            "queries": sum(len(document.queries) for document in documents),
            "documents_with_queries": sum(bool(document.queries) for document in documents),
        }


def document_of(passage_id: str) -> str:
    """The document that a passage is of: gecko-fret calls the passages of a file or row that it cut ``NAME#NUMBER``."""
    match = _CHUNK.fullmatch(passage_id)
    return match["document"] if match else passage_id


def read_fields(folder: str | Path, queries: Queries = "answered", *, whole: bool = False) -> FieldTexts:
    """Read the documents of a finished FRet folder.

    Args:
        folder: what ``gecko-fret build`` wrote; formats 1 and 2.
        queries: ``all`` that an LLM wrote and the filter accepted, for the passage that they were written from;
            ``answered``: those of them for which the judges found an answer and the passage near the top, the others
            are left out; ``relabelled``: likewise, but for the passage that the judges took for the answer, and with
            the users' own queries of a log; ``none``.
        whole: every passage is a document of its own, also those called NAME#NUMBER.

    Raises:
        ConfigError: another word for ``queries``, or pyarrow is not installed.
        DataError: no finished FRet folder, or a part that is missing, damaged or of another build.
    """
    if queries not in QUERIES:
        raise ConfigError(f"queries {queries!r}: use one of {', '.join(QUERIES)}")
    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        raise DataError(
            f"{folder}: not a FRet folder (no manifest.json); make one with: gecko-fret build --out {folder}"
        )
    manifest = read_json(folder / "manifest.json", cure="restore it, or build the folder again", checksum="sha256")
    if not manifest.get("complete"):
        raise DataError(f"{folder}: the build is not finished; run the same gecko-fret build command again to go on")
    parts = PartList.from_json(folder, manifest.get("parts"))
    documents: dict[str, DocumentTexts] = {}
    for record in read_parts(folder, "corpus", parts, ("id", "title", "text"), _CURE):
        chunk = record.text("id")
        name = chunk if whole else document_of(chunk)
        document = documents.setdefault(name, DocumentTexts(name))
        document.chunk_ids.append(chunk)
        document.chunks.append(record.text("text"))
        document.titles.append(record.optional_text("title"))
    for passage, query in _queries(folder, parts, queries):
        name = passage if whole else document_of(passage)
        if name not in documents:
            raise DataError(f"{folder}: a query is for passage {passage!r}, which the corpus lacks; {_CURE}")
        if query not in documents[name].queries:
            documents[name].queries.append(query)
    return FieldTexts(documents, queries, str(folder))


def _queries(folder: Path, parts: PartList, queries: Queries) -> Iterator[tuple[str, str]]:
    """(passage, query) of every query that counts."""
    if queries == "none":
        return
    if queries == "all":
        columns = ("seed_id", "query", "source")
        for record in read_parts(folder, "generated", parts, columns, _CURE, need=columns[:-1]):
            if record.fields.get("source", "llm") == "llm":
                yield record.text("seed_id"), record.text("query")
        return
    sources = ("llm", "log") if queries == "relabelled" else ("llm",)
    of = "positive_id" if queries == "relabelled" else "seed_id"
    wanted = ("seed_id", "positive_id", "query", "source")
    for record in read_parts(folder, "fret", parts, wanted, _CURE, need=wanted[:-1]):
        if record.fields.get("source", "llm") in sources and record.fields["positive_id"] is not None:
            yield record.text(of), record.text("query")
