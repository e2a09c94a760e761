"""Natural language inference: SNLI, MNLI, XNLI."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, required, text_of
from gecko_train.data.rows import Document, TrainingRow, without_passages

_LABELS = {"0": "entailment", "1": "neutral", "2": "contradiction"}
_NO_MAJORITY = ("-1", "-")  # how SNLI marks pairs whose annotators disagree


def nli_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Premise -> entailed hypothesis as the positive, contradicted hypotheses of the same premise as hard negatives.

    Raises:
        DataError: a label is none of the three.
    """
    groups: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        given = required(record, "label")
        label = str(given).strip().lower() if isinstance(given, str | int) and not isinstance(given, bool) else ""
        label = _LABELS.get(label, label)
        if label in _NO_MAJORITY:
            continue
        if label not in _LABELS.values():
            raise DataError(f"{record.where}: label {given!r}; expected entailment, neutral or contradiction (0, 1, 2)")
        premise = str(record.fields.get("lang", "")), text_of(record, ("premise",))
        groups[premise][label].append(text_of(record, ("hypothesis",)))
    for (_, premise_text), by_label in groups.items():
        entailed = [Document(text) for text in by_label["entailment"]]
        contradicted = without_passages(map(Document, by_label["contradiction"]), entailed)
        for document in entailed:
            yield TrainingRow(settings.task, premise_text, document, contradicted, settings.symmetric)


NLI = Adapter(
    nli_rows,
    "semantic similarity",
    symmetric=True,
    whole=True,
    columns=frozenset({"premise", "hypothesis", "label", "lang"}),
)
