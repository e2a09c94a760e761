"""Reads sentence pairs with similarity scores."""

from __future__ import annotations

from pathlib import Path

from gecko_core.io import below_data_dir
from gecko_eval.data.files import find_file
from gecko_eval.data.labelled import Column, check_contrast, read_columns
from gecko_eval.data.sets import StsSet

#: Of a set of sentence pairs with scores.
STS_COLUMNS = (
    Column("sentence1", "sentence1", str),
    Column("sentence2", "sentence2", str),
    Column("score", "score", (int, float)),
)


def load_sts(folder: str | Path, split: str = "test") -> StsSet:
    """Read ``folder/<split>.jsonl`` (plain or .gz) with sentence1, sentence2 and score; also below GECKO_DATA_DIR.

    Raises:
        DataError: a missing file or key, no rows, or scores that are all alike; the line names file and row.
    """
    folder = below_data_dir(folder)
    path = find_file(folder, f"{split}.jsonl")
    columns = read_columns(path, STS_COLUMNS)
    check_contrast(path, "score", columns["score"])
    scores = [float(score) for score in columns["score"]]
    return StsSet(folder.resolve().name, columns["sentence1"], columns["sentence2"], scores)
