"""Queries that stand in their own corpus, as in sets of duplicate questions: their own hit must not count as a miss."""

from __future__ import annotations

from collections.abc import Mapping

from gecko_core.text_identity import text_key


def own_documents(
    queries: Mapping[str, str],
    documents: Mapping[str, tuple[str, str]],
    qrels: Mapping[str, Mapping[str, int]],
) -> tuple[bool, tuple[str, ...]]:
    """Whether documents with their query's id are to be left out of the rankings, and what to tell the user.

    They are where every query whose id is also a document's is that document, word for word, and none of them is judged
    relevant to itself. Where some are and others are not, ids that happen to be the same cannot be told from a rule.

    Args:
        queries: text by id.
        documents: title and text by id.
        qrels: query id -> document id -> grade.

    Returns:
        The answer, and notes of one line.
    """
    shared = [query for query in queries if query in documents]
    same = [query for query in shared if _is(queries[query], *documents[query])]
    relevant = [query for query in same if qrels.get(query, {}).get(query, 0) > 0]
    if not same or relevant:
        return False, _twins(queries, documents, qrels)
    count = f"{len(same)} of {len(queries)} queries are documents of the corpus under the same id"
    if len(same) == len(shared):
        note = f"{count}; a query's own document is left out of its ranking, as in Quora and ArguAna"
    else:
        note = (
            f"{count}, and {len(shared) - len(same)} have the same id as another text: nothing is left out of a "
            "ranking, and these queries find themselves first; give queries ids of their own, or remove the documents"
        )
    return len(same) == len(shared), (note, *_twins(queries, documents, qrels))


def _twins(
    queries: Mapping[str, str], documents: Mapping[str, tuple[str, str]], qrels: Mapping[str, Mapping[str, int]]
) -> tuple[str, ...]:
    """A note on queries whose text is also that of documents with another id and without a judgement."""
    asked: dict[str, list[str]] = {}
    for query, text in queries.items():
        asked.setdefault(text.strip(), []).append(query)
    found: dict[str, str] = {}
    for document, (_, text) in documents.items():
        for query in asked.get(text.strip(), ()):
            if document != query and document not in qrels.get(query, {}):
                found.setdefault(query, document)
    if not found:
        return ()
    query, document = next(iter(found.items()))
    note = (
        f"{len(found)} of {len(queries)} queries stand in the corpus word for word as documents without a judgement "
        f"(the first is {query!r} as {document!r}); these come first and lower the score"
    )
    return (note,)


def _is(query: str, title: str, text: str) -> bool:
    return text_key(query) in (text_key(text), text_key(f"{title} {text}"))
