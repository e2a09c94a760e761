"""MedMCQA: medical multiple choice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gecko_core.io import Record
from gecko_train.data.adapters.base import Adapter, Settings, text_of
from gecko_train.data.rows import Document, TrainingRow


def medmcqa_rows(records: Iterable[Record], settings: Settings) -> Iterator[TrainingRow]:
    """The right option is the positive, the wrong ones are hard negatives; questions without an answer are left out."""
    for record in records:
        fields = record.fields
        if "options" in fields:
            options, answer = list(fields["options"]), fields.get("answer_index")
        else:
            options, answer = [fields.get(key) for key in ("opa", "opb", "opc", "opd")], fields.get("cop")
        if answer is None or not 0 <= int(answer) < len(options) or not all(options):
            continue  # the public test split has no answers
        documents = [Document(str(option)) for option in options]
        positive = documents.pop(int(answer))
        yield TrainingRow(settings.task, text_of(record, ("question",)), positive, tuple(documents), settings.symmetric)


MEDMCQA = Adapter(medmcqa_rows, "question answering")
