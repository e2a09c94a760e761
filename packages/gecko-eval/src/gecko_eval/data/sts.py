"""Reads sentence pairs with similarity scores."""

from __future__ import annotations

import math
from pathlib import Path

from gecko_core.errors import DataError
from gecko_core.io import below_data_dir, read_table
from gecko_eval.data.beir import find_file
from gecko_eval.data.sets import StsSet


def load_sts(folder: str | Path, split: str = "test") -> StsSet:
    """Read ``folder/<split>.jsonl`` (plain or .gz) with sentence1, sentence2 and score; also below GECKO_DATA_DIR.

    Raises:
        DataError: a missing file or key, or no rows; the line names file and row.
    """
    folder = below_data_dir(folder)
    first, second, scores = [], [], []
    path = find_file(folder, f"{split}.jsonl")
    for _, where, fields in read_table(path):
        if not (
            isinstance(fields.get("sentence1"), str)
            and isinstance(fields.get("sentence2"), str)
            and isinstance(fields.get("score"), int | float)
            and not isinstance(fields["score"], bool)
            and math.isfinite(fields["score"])
        ):
            raise DataError(f"{where}: expected sentence1, sentence2 and a number as score, found {', '.join(fields)}")
        first.append(fields["sentence1"])
        second.append(fields["sentence2"])
        scores.append(float(fields["score"]))
    if not scores:
        raise DataError(f"{path}: no rows in it; a set needs at least one")
    return StsSet(folder.resolve().name, first, second, scores)
