"""Texts that a run sets apart, its test above all, kept out of sets that it did not make itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from gecko_core.text_identity import text_id
from gecko_train.data.rows import TrainingRow


class SetApart:
    """Texts that no training row may have, and what was left out for them.

    The run's own corpus and FRet rows are without them. A set that names a path may be of the same texts.

    Args:
        texts: ids of queries and passages (`gecko_core.text_identity.text_id`).
    """

    def __init__(self, texts: Collection[int]):
        self.texts = texts
        self.rows = self.documents = 0

    def left(self, row: TrainingRow) -> TrainingRow | None:
        """The row without the documents that are set apart; None where its query or its positive is, or all are."""
        kept = [document for document in row.negatives if text_id(document.text) not in self.texts]
        of_query = row.query is not None and text_id(row.query) in self.texts
        of_answer = row.positive is not None and text_id(row.positive.text) in self.texts
        if of_query or of_answer or (row.positive is None and row.negatives and not kept):
            self.rows += 1
            return None
        if len(kept) == len(row.negatives):
            return row
        self.documents += len(row.negatives) - len(kept)
        scores = row.scores
        if scores is not None:
            first = len(scores) - len(row.negatives)
            of_negatives = zip(row.negatives, scores[first:], strict=True)
            scores = scores[:first] + tuple(s for d, s in of_negatives if text_id(d.text) not in self.texts)
        return replace(row, negatives=tuple(kept), scores=scores)

    def note(self, name: str) -> str | None:
        """What was left out of a set, for the user; None: nothing was."""
        if not self.rows and not self.documents:
            return None
        return (
            f"set {name}: {self.rows} rows, and {self.documents} documents of others, left out: this run tests with "
            "their texts, or chooses by them"
        )
