"""Judged sets in memory: queries with relevant documents, sentence pairs with scores."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gecko_core.errors import DataError
from gecko_core.numbers import is_whole
from gecko_core.sequences import check_list

#: Of a judgement. trec_eval, by which mteb scores, makes a table as long as the highest grade: 17 GB for 2^31 - 1.
LARGEST_GRADE = 10_000


#: Fields of a ``RetrievalSet`` to the word for one of their values.
_OF_STR = {"query_ids": "query id", "queries": "query", "doc_ids": "document id", "docs": "document", "titles": "title"}


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, documents and graded judgements, checked when built.

    Attributes:
        name: what results call it.
        query_ids: the id of every query.
        queries: their texts.
        doc_ids: the id of every document.
        docs: their texts.
        titles: their titles; None where no document has one.
        qrels: query id -> document id -> grade; above 0 is relevant, 0 is judged and not relevant.
        task: the task string of the query prompt.
        symmetric: whether documents get the query's format, too (paper, section on the unified format).
        ignore_identical_ids: whether a document with its query's own id is left out of the ranking, as ArguAna and
            Quora want.
        notes: what a reader of its scores should know, one line each.

    Raises:
        DataError: other things than lists of str, lists of unequal length, an id that occurs twice, judgements of an
            unknown query or document, a grade that is no whole number or beyond ``LARGEST_GRADE``, or a query without
            any judgement. The line names the set and the first culprit.
    """

    name: str
    query_ids: Sequence[str]
    queries: Sequence[str]
    doc_ids: Sequence[str]
    docs: Sequence[str]
    titles: Sequence[str] | None
    qrels: Mapping[str, Mapping[str, int]]
    task: str = "search result"
    symmetric: bool = False
    ignore_identical_ids: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, what in _OF_STR.items():
            if getattr(self, field) is not None:
                object.__setattr__(self, field, _listed(getattr(self, field), what, self.name))
        self._check_shapes()
        if not isinstance(self.qrels, Mapping):
            raise DataError(f"{self.name}: qrels must map query ids to grades, not be a {type(self.qrels).__name__}")
        queries, docs = set(self.query_ids), set(self.doc_ids)
        for query_id, judged in self.qrels.items():
            if query_id not in queries:
                raise DataError(f"{self.name}: qrels name the query {query_id!r}, which is not among the queries")
            if not isinstance(judged, Mapping):
                where = f"{self.name}: qrels of query {query_id!r}"
                raise DataError(f"{where} must map document ids to grades, not be a {type(judged).__name__}")
            unknown = next((d for d in judged if d not in docs), None)
            if unknown is not None:
                where = f"{self.name}: qrels of query {query_id!r}"
                raise DataError(f"{where} name the document {unknown!r}, which is not in the corpus")
            wrong = [grade for grade in judged.values() if not is_whole(grade, -LARGEST_GRADE, LARGEST_GRADE)]
            if wrong:
                raise DataError(
                    f"{self.name}: qrels of query {query_id!r} have the grade {str(wrong[0])[:40]}; grades are whole "
                    f"numbers up to {LARGEST_GRADE}"
                )
        bare = [q for q in self.query_ids if not self.qrels.get(q)]
        if bare:
            raise DataError(
                f"{self.name}: {len(bare)} of {len(self.query_ids)} queries have no judgement "
                f"(the first is {bare[0]!r}); add judgements or leave these queries out"
            )

    def _check_shapes(self) -> None:
        if not len(self.query_ids) or not len(self.doc_ids):
            raise DataError(f"{self.name}: {len(self.query_ids)} queries and {len(self.doc_ids)} documents; need both")
        for what, ids, texts in (("query", self.query_ids, self.queries), ("document", self.doc_ids, self.docs)):
            if len(ids) != len(texts):
                raise DataError(f"{self.name}: {len(ids)} {what} ids but {len(texts)} {what} texts")
            if len(set(ids)) != len(ids):
                twice = next(i for i, times in Counter(ids).items() if times > 1)
                raise DataError(f"{self.name}: the {what} id {twice!r} occurs twice; ids must be unique")
        if self.titles is not None and len(self.titles) != len(self.docs):
            raise DataError(f"{self.name}: {len(self.titles)} titles but {len(self.docs)} documents")

    @property
    def judgements(self) -> list[Mapping[str, int]]:
        """The grades of every query, in the order of ``query_ids``."""
        return [self.qrels[q] for q in self.query_ids]

    def fingerprint(self) -> str:
        """Changes with any text, id or grade: a score stands for exactly this content.

        And with the order of the queries in ``qrels``, in which the values of single queries are kept.
        """
        digest = hashlib.sha256()
        columns = (self.query_ids, self.queries, self.doc_ids, self.docs, self.titles or ())
        for value in (*columns, *(sorted(judged.items()) for judged in self.qrels.values())):
            digest.update(repr(list(value)).encode("utf-8", "surrogatepass"))
        if list(self.qrels) != list(self.query_ids):
            digest.update(repr(list(self.qrels)).encode("utf-8", "surrogatepass"))
        if self.ignore_identical_ids:
            digest.update(b"own documents left out")
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class StsSet:
    """Sentence pairs with human scores: ``sentences1[i]`` and ``sentences2[i]`` got ``scores[i]``.

    Raises:
        DataError: other things than lists of str, lists of unequal length, or fewer than two pairs.
    """

    name: str
    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    task: str = "semantic similarity"

    def __post_init__(self) -> None:
        for field in ("sentences1", "sentences2"):
            object.__setattr__(self, field, _listed(getattr(self, field), "sentence", self.name))
        if not len(self.sentences1) == len(self.sentences2) == len(self.scores) or len(self.scores) < 2:
            counts = f"{len(self.sentences1)}, {len(self.sentences2)} and {len(self.scores)}"
            raise DataError(f"{self.name}: need at least two pairs with scores, found {counts} entries")


def _listed(values: Any, what: str, name: str) -> list[str]:
    """A list, whose places count: a column of a frame would be asked by its labels."""
    try:
        check_list(values, what)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    found = list(values)
    for place, value in enumerate(found):
        if not isinstance(value, str) and not (value is None and what == "title"):
            raise DataError(f"{name}: {what} {place} is {type(value).__name__}, not str")
    return ["" if value is None else str(value) for value in found]  # numpy's str has a repr of its own
