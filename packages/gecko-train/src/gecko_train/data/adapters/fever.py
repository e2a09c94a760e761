"""FEVER and Climate-FEVER: claims with evidence sentences."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_train.data.adapters.base import (
    LABEL_FIELDS,
    PAIR_COLUMNS,
    Adapter,
    Settings,
    label_of,
    required,
    text_of,
)
from gecko_train.data.adapters.pairs import pair_rows
from gecko_train.data.rows import Document, TrainingRow, without_passages

#: Labels of evidence, also by number as on the hub: does it decide the claim?
_DECIDES = {"SUPPORTS": True, "REFUTES": True, "NOT ENOUGH INFO": False, "0": True, "1": True, "2": False}


def fever_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """Evidence that decides the claim is positive, evidence marked as not enough is a hard negative.

    Records without evidences are read by :func:`~gecko_train.data.adapters.pairs.pair_rows`, together with those next
    to them; their label, if any, is that of evidence, whatever its column is called.

    Raises:
        DataError: an unknown label, or evidences that are not objects with ``evidence`` and ``evidence_label``.
    """
    for listed, group in itertools.groupby(records, lambda record: bool(record.fields.get("evidences"))):
        if listed:
            yield from _of_evidences(group, settings)
        else:
            yield from pair_rows((_with_flag(record, settings) for record in group), settings)


def _with_flag(record: Record, settings: Settings) -> Record:
    """The record with 1 or 0 as the label of its pair."""
    key = label_of(record, settings)
    if key is None or key.lower() not in LABEL_FIELDS:
        return record
    return record._replace(fields={**record.fields, key: int(_decides(record.fields[key], record))})


def _of_evidences(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    for record in records:
        evidences: Any = record.fields["evidences"]
        if not isinstance(evidences, list) or not all(isinstance(evidence, dict) for evidence in evidences):
            raise DataError(f"{record.where}: 'evidences' is no list of objects")
        claim = text_of(record, ("claim",))
        decided: list[Document] = []
        undecided: list[Document] = []
        for evidence in evidences:
            inner = record._replace(fields=evidence)
            documents = decided if _decides(required(inner, "evidence_label"), record) else undecided
            documents.append(Document(text_of(inner, ("evidence",)), inner.optional_text("article")))
        negatives = without_passages(undecided, decided)
        for positive in decided:
            yield TrainingRow(settings.task, claim, positive, negatives, settings.symmetric)


def _decides(label: Any, record: Record) -> bool:
    found = _DECIDES.get(str(label).upper().replace("_", " "))
    if found is None:
        raise DataError(f"{record.where}: label {label!r} of evidence; expected SUPPORTS, REFUTES or NOT_ENOUGH_INFO")
    return found


FEVER = Adapter(fever_rows, columns=PAIR_COLUMNS | {"evidences"})
