"""FEVER and Climate-FEVER: claims with evidence sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, text_of
from gecko_train.data.adapters.pairs import pair_rows
from gecko_train.data.rows import Document, TrainingRow

_UNDECIDED = ("NOT_ENOUGH_INFO", "NOT ENOUGH INFO", "2")


def fever_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Evidence that decides the claim is positive, evidence marked as not enough is a hard negative.

    Records without evidences are read by :func:`~gecko_train.data.adapters.pairs.pair_rows`.
    """
    for record in records:
        evidences = record.fields.get("evidences")
        if not evidences:
            yield from pair_rows([record], settings)
            continue
        claim = text_of(record, ("claim",))
        decided: list[Document] = []
        undecided: list[Document] = []
        for evidence in evidences:
            label = str(evidence["evidence_label"]).upper()
            documents = undecided if label in _UNDECIDED else decided
            documents.append(Document(evidence["evidence"], evidence.get("article")))
        for positive in decided:
            yield TrainingRow(settings.task, claim, positive, tuple(undecided), settings.symmetric)


FEVER = Adapter(fever_rows)
