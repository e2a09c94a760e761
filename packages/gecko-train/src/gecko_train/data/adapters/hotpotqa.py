"""HotpotQA: multi-hop questions with the paragraphs that were shown beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow


def hotpotqa_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Each supporting paragraph is a positive; the other paragraphs shown are hard negatives."""
    for record in records:
        question = text_of(record, ("question",))
        context, facts = required(record, "context"), required(record, "supporting_facts")
        # The hub stores columns, the original release lists of [title, sentences].
        paragraphs = (
            list(zip(context["title"], context["sentences"], strict=True)) if isinstance(context, dict) else context
        )
        supporting = set(facts["title"]) if isinstance(facts, dict) else {fact[0] for fact in facts}
        documents = {title: Document("".join(sentences).strip(), title) for title, sentences in paragraphs}
        negatives = tuple(
            document for title, document in documents.items() if title not in supporting and document.text
        )
        for title, document in documents.items():
            if title in supporting and document.text:
                yield TrainingRow(settings.task, question, document, negatives, settings.symmetric)


HOTPOTQA = Adapter(hotpotqa_rows)
