"""Retrieval: queries, a corpus and relevance judgements."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gecko_core.errors import DataError
from gecko_core.io import read_table
from gecko_eval.data.beir import load_beir
from gecko_eval.data.csv_set import find_queries, load_csv
from gecko_eval.data.files import find_file, holds
from gecko_eval.data.qrels import find_qrels, read_qrels
from gecko_eval.data.sets import RetrievalSet
from gecko_eval.mteb.kinds.base import Kind, new_task, public_task
from gecko_eval.mteb.public_content import PublicContent

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

_BEIR = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")


class Retrieval(Kind):
    """A BEIR folder, or a table of queries and relevant ids beside a corpus; scored by nDCG@10."""

    name, unit = "Retrieval", "queries"
    searches = True

    def recognise(self, folder: Path, fields: Collection[str]) -> bool:
        """See ``Kind``."""
        beir = all(holds(folder, name) for name in _BEIR)
        table = find_queries(folder)
        if beir and table is not None:
            raise DataError(f"{folder}: holds {table.name} beside {' and '.join(_BEIR[1:])}; remove those or that")
        return beir or table is not None

    def rows(self, folder: Path) -> Iterator[Sequence[Any]]:
        """See ``Kind``; none for a table of queries, which has no query ids and is never public data."""
        if find_queries(folder) is not None:
            return
        doc_ids, queries = set(), {}
        for _, _, fields in read_table(find_file(folder, "corpus.jsonl")):
            doc_ids.add(str(fields.get("_id")))
            yield ["document", str(fields.get("_id")), fields.get("title") or "", fields.get("text")]
        for _, _, fields in read_table(find_file(folder, "queries.jsonl")):
            queries[str(fields.get("_id"))] = fields.get("text")
        qrels = read_qrels(find_qrels(folder, "test"), queries, doc_ids)
        yield from (["query", query_id, text] for query_id, text in queries.items() if query_id in qrels)
        yield from (
            ["judgement", query_id, doc_id, grade]
            for query_id, judged in qrels.items()
            for doc_id, grade in judged.items()
        )

    def load(self, folder: Path, name: str, public: PublicContent | None, *, drop_unjudged: bool = False) -> AbsTask:
        """See ``Kind``."""
        table = find_queries(folder)
        if table:
            return retrieval_task(load_csv(table), public)
        own = None if public is None else False  # mteb's class of a public set knows
        unjudged: Literal["error", "drop"] = "drop" if drop_unjudged else "error"
        data = load_beir(folder, name=name, unjudged=unjudged, ignore_identical_ids=own)
        return retrieval_task(data, public)


def retrieval_task(data: RetrievalSet, public: PublicContent | None = None) -> AbsTask:
    """A retrieval task of mteb on this data: its own class where ``public`` names one."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    task = public_task(public)
    if task is None:
        task = new_task(AbsTaskRetrieval, data.name, Retrieval.name, "ndcg_at_10")
    titles = list(data.titles) if data.titles is not None else [""] * len(data.docs)
    if data.ignore_identical_ids:
        task.ignore_identical_ids = True
    task.dataset = {
        "default": {
            "test": {
                "corpus": Dataset.from_dict({"id": list(data.doc_ids), "title": titles, "text": list(data.docs)}),
                "queries": Dataset.from_dict({"id": list(data.query_ids), "text": list(data.queries)}),
                # Grades below 0, such as -2 for spam in TREC's web tracks, count as 0: pytrec_eval reads outside its
                # tables at those below -1.
                "relevant_docs": {
                    query_id: {doc_id: max(grade, 0) for doc_id, grade in judged.items()}
                    for query_id, judged in data.qrels.items()
                },
                "top_ranked": None,
            }
        }
    }
    task.data_loaded = True
    task.notes = (*data.notes, *_without_relevant(data))  # for whoever runs it
    return task


def _without_relevant(data: RetrievalSet) -> tuple[str, ...]:
    """A note on queries of which every judgement is 0 or below: their score is 0, as mteb has it, whatever is found."""
    count = sum(max(judged.values()) <= 0 for judged in data.judgements)
    if not count:
        return ()
    return (
        f"{count} of {len(data.query_ids)} queries have no judgement above 0: they score 0 whatever is found, and the "
        "mean is lower by it",
    )
