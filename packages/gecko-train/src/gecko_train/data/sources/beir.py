"""Source ``beir``: the judged pairs of a folder in BEIR layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gecko_core.io import Section, find_data
from gecko_eval.data import find_qrels, load_beir
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, parse_options


class BeirOptions(Section):
    """Which judgements are read."""

    split: str = "train"  # qrels/<split>.tsv


class Beir(Source):
    """A row per relevant document of each query, in the order of the judgements; documents keep their titles."""

    options = BeirOptions

    def check(self, config: SetConfig) -> None:
        """See ``Source``: the split's judgements, too."""
        find_qrels(find_data(config.path or ""), parse_options(BeirOptions, config).split)

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``."""
        split = parse_options(BeirOptions, config).split
        judged = load_beir(find_data(config.path or ""), split, unjudged="drop")
        queries = dict(zip(judged.query_ids, judged.queries, strict=True))
        titles: Sequence[str | None] = judged.titles or [None] * len(judged.docs)
        documents = {
            document_id: Document(text, title or None)
            for document_id, text, title in zip(judged.doc_ids, judged.docs, titles, strict=True)
        }
        for query_id, grades in judged.qrels.items():
            for document_id, grade in grades.items():
                if grade > 0:
                    yield TrainingRow(config.task or "search result", queries[query_id], documents[document_id])
