"""Adapters: one record of a public data set, in its natural schema, to training rows.

Each adapter is a function from records to rows; the registry at the end carries its task string and its format. A
record is a dict with ``_where`` (file and row) for messages. Hub layouts and plain JSON lines are both accepted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gecko_core.errors import DataError
from gecko_core.randomness import Stream, stream_generator
from gecko_train.data.rows import Document, TrainingRow

Record = dict[str, Any]
_QUERY = ("query", "anchor", "question", "claim", "sentence1", "input")
_POSITIVE = ("positive", "pos", "answer", "document", "passage", "positive_passages", "text", "sentence2", "context")
_LABELS = {0: "entailment", 1: "neutral", 2: "contradiction"}


@dataclass(frozen=True)
class Settings:
    """What a recipe says about a set, resolved against the adapter's defaults."""

    task: str
    symmetric: bool
    seed: int = 0
    negatives: int = 1
    unique_ids: bool = False


def pairs(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Query-passage rows with any number of negatives: sentence-transformers triplets, FlagEmbedding, tevatron, MIRACL.

    Columns: ``query`` (or anchor, question, claim), ``positive`` (or pos, answer, document, positive_passages) and
    optionally ``negative``, ``negative_1`` ..., ``neg`` or ``negative_passages``; documents are texts or objects with
    ``title`` and ``text``. Several positives give several rows.
    """
    for record in records:
        query = _text(record, _QUERY)
        positives = _documents(_first(record, _POSITIVE), record)
        negatives = [
            document
            for key in sorted(key for key in record if key.startswith("neg"))
            if not key.endswith("_scores")
            for document in _documents(record[key], record)
        ]
        if not positives:
            continue  # MIRACL and its like hold queries without a judged positive
        for positive in positives:
            yield TrainingRow(settings.task, query, positive, tuple(negatives), settings.symmetric)


def nli(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Premise -> entailed hypothesis as the positive, contradicted hypotheses of the same premise as hard negatives."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        label = _need(record, "label")
        label = _LABELS.get(label, label)
        if label in (-1, "-1", "-"):  # SNLI marks pairs without a majority label this way
            continue
        if label not in _LABELS.values():
            raise DataError(
                f"{record['_where']}: label {label!r}; expected entailment, neutral or contradiction (0, 1, 2)"
            )
        hypotheses = groups[str(record.get("lang", "")), _text(record, ("premise",))][label]
        hypotheses.append(_text(record, ("hypothesis",)))
    for (_, premise), by_label in groups.items():
        contradicted = tuple(Document(text) for text in by_label["contradiction"])
        for text in by_label["entailment"]:
            yield TrainingRow(settings.task, premise, Document(text), contradicted, settings.symmetric)


def classification(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """(text, label): the positive is another text of the label, the negatives are texts of other labels.

    Rows of one label would be false negatives of each other. Either the loss masks them (``label``), or, as in the
    paper, an id of the row's own is written after its texts, which makes other rows trivially different.
    """
    texts, labels = [], []
    for record in records:
        texts.append(_text(record, ("text", "sentence")))
        labels.append(str(record.get("label_text", _need(record, "label"))))
    by_label = {label: np.flatnonzero(np.array(labels) == label) for label in dict.fromkeys(labels)}
    if len(by_label) < 2:
        raise DataError(
            f"classification set with the one label {next(iter(by_label), None)!r}; at least two are needed"
        )
    generator = stream_generator(settings.seed, Stream.CLASSIFICATION)
    everything = np.arange(len(texts))
    for place, (text, label) in enumerate(zip(texts, labels, strict=True)):
        own = by_label[label]
        if len(own) < 2:
            continue
        partner = own[generator.integers(len(own))]
        if partner == place:
            partner = own[(np.searchsorted(own, place) + 1) % len(own)]
        others: list[int] = []
        while len(others) < settings.negatives:
            candidate = int(everything[generator.integers(len(everything))])
            if labels[candidate] != label:
                others.append(candidate)
        mark = f" [{settings.seed:x}-{place:x}]" if settings.unique_ids else ""
        yield TrainingRow(
            settings.task,
            text + mark,
            Document(texts[partner] + mark),
            tuple(Document(texts[other] + mark) for other in others),
            settings.symmetric,
            label=None if settings.unique_ids else label,
        )


def hotpotqa(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Multi-hop questions: each supporting paragraph is a positive, the other paragraphs shown are hard negatives."""
    for record in records:
        question = _text(record, ("question",))
        context, facts = _need(record, "context"), _need(record, "supporting_facts")
        # The hub stores columns, the original release lists of [title, sentences].
        paragraphs = (
            list(zip(context["title"], context["sentences"], strict=True)) if isinstance(context, dict) else context
        )
        supporting = set(facts["title"]) if isinstance(facts, dict) else {fact[0] for fact in facts}
        documents = {title: Document("".join(sentences).strip(), title) for title, sentences in paragraphs}
        negatives = tuple(one for title, one in documents.items() if title not in supporting and one.text)
        for title in documents:
            if title in supporting and documents[title].text:
                yield TrainingRow(settings.task, question, documents[title], negatives, settings.symmetric)


def fever(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Claims with evidence sentences (FEVER, Climate-FEVER): evidence that decides the claim is positive, evidence
    marked as not enough is a hard negative. Records in passage layout go the way of :func:`pairs`."""
    for record in records:
        evidences = record.get("evidences")
        if not evidences:
            yield from pairs([record], settings)
            continue
        claim = _text(record, ("claim",))
        decided: list[Document] = []
        undecided: list[Document] = []
        for one in evidences:
            label = str(one["evidence_label"]).upper()
            target = undecided if label in ("NOT_ENOUGH_INFO", "NOT ENOUGH INFO", "2") else decided
            target.append(Document(one["evidence"], one.get("article")))
        for positive in decided:
            yield TrainingRow(settings.task, claim, positive, tuple(undecided), settings.symmetric)


def medmcqa(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Medical multiple choice: the right option is the positive, the wrong ones are hard negatives."""
    for record in records:
        if "options" in record:
            options, right = list(record["options"]), record.get("answer_index")
        else:
            options, right = [record.get(key) for key in ("opa", "opb", "opc", "opd")], record.get("cop")
        if right is None or not 0 <= int(right) < len(options) or not all(options):
            continue  # the public test split has no answers
        documents = [Document(str(option)) for option in options]
        positive = documents.pop(int(right))
        yield TrainingRow(settings.task, _text(record, ("question",)), positive, tuple(documents), settings.symmetric)


def question_context(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Questions with the passage that answers them: SQuAD, MLQA, BoolQ, PubMedQA, BioASQ, Natural Questions, NQ-open.

    The positive is ``context``, ``contexts`` (joined), each of ``snippets``, or, without any, the ``answer``.
    """
    for record in records:
        question = _text(record, _QUERY)
        if record.get("positive_passages") or record.get("positive"):
            yield from pairs([record], settings)
            continue
        if record.get("label") in (0, "0"):  # WikiQA and its like list wrong answers as rows of their own
            continue
        found = record.get("context") or record.get("snippets") or record.get("contexts") or record.get("answer")
        if isinstance(found, dict):  # PubMedQA on the hub: {"contexts": [...]}
            found = found.get("contexts")
        if record.get("contexts") and found is record.get("contexts") and isinstance(found, list):
            found = " ".join(found)
        if not found:
            raise DataError(f"{record['_where']}: no context, snippets or answer; add a column with the passage")
        title = record.get("title") or None
        texts = (
            [found]
            if isinstance(found, str)
            else found[:1]
            if "answer" in record and found is record["answer"]
            else found
        )
        for text in texts:
            if str(text).strip():
                yield TrainingRow(settings.task, question, Document(str(text), title), (), settings.symmetric)


@dataclass(frozen=True)
class Adapter:
    """How a kind of set is read: its function and the defaults of the paper (task string, format)."""

    read: Callable[[Iterable[Record], Settings], Iterator[TrainingRow]]
    task: str
    symmetric: bool = False


ADAPTERS: dict[str, Adapter] = {
    "pairs": Adapter(pairs, "search result"),
    "triplets": Adapter(pairs, "search result"),
    "qa": Adapter(question_context, "question answering"),
    "nq": Adapter(question_context, "question answering"),
    "hotpotqa": Adapter(hotpotqa, "search result"),
    "fever": Adapter(fever, "search result"),
    "medmcqa": Adapter(medmcqa, "question answering"),
    "snli": Adapter(nli, "semantic similarity", symmetric=True),
    "mnli": Adapter(nli, "semantic similarity", symmetric=True),
    "nli": Adapter(nli, "semantic similarity", symmetric=True),
    "miracl": Adapter(pairs, "question answering"),
    "classification": Adapter(classification, "classification", symmetric=True),
}


def _need(record: Record, key: str) -> Any:
    if record.get(key) is None:
        columns = ", ".join(name for name in record if name != "_where")
        raise DataError(
            f"{record['_where']}: no {key!r} (columns: {columns}); rename the column or choose another source"
        )
    return record[key]


def _first(record: Record, names: tuple[str, ...]) -> Any:
    for name in names:
        if record.get(name) is not None:
            return record[name]
    return _need(record, names[0])


def _text(record: Record, names: tuple[str, ...]) -> str:
    value = _first(record, names)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{record['_where']}: {names[0]!r} is empty or not a text; remove the row or fill it")
    return value


def _documents(value: Any, record: Record) -> list[Document]:
    if value is None:
        return []
    if isinstance(value, list | tuple | np.ndarray):
        return [document for one in value for document in _documents(one, record)]
    if isinstance(value, dict):
        return [Document(_text({**value, "_where": record["_where"]}, ("text",)), value.get("title") or None)]
    if not isinstance(value, str):
        raise DataError(
            f"{record['_where']}: a document is a {type(value).__name__}; expected a text or title and text"
        )
    return [Document(value)] if value.strip() else []
