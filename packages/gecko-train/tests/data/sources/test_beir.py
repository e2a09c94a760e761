import json

import pytest

from gecko_core.errors import DataError
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def load(**config):
    return list(load_set(SetConfig(**config), SourceContext()))


def test_a_beir_folder_gives_its_judged_pairs(tmp_path):
    write_lines(
        tmp_path / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "x"}, {"_id": "d2", "title": "", "text": "y"}]
    )
    write_lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "ask"}])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n")
    (row,) = load(source="beir", path=str(tmp_path), task="fact checking")
    assert (row.task, row.query, row.positive) == ("fact checking", "ask", Document("x", "T"))
    with pytest.raises(DataError, match=r"no qrels/dev\.tsv \(found train\.tsv\)"):
        load(source="beir", path=str(tmp_path), options={"split": "dev"})


def test_rows_come_in_the_order_of_the_judgements(tmp_path):
    write_lines(tmp_path / "corpus.jsonl", [{"_id": f"d{n}", "text": f"text {n}"} for n in range(3)])
    write_lines(tmp_path / "queries.jsonl", [{"_id": f"q{n}", "text": f"ask {n}"} for n in range(3)])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("q2\td0\t1\nq0\td1\t2\nq0\td2\t1\n")  # no header
    rows = load(source="beir", path=str(tmp_path))
    assert [(row.query, row.positive.text) for row in rows] == [
        ("ask 2", "text 0"),
        ("ask 0", "text 1"),
        ("ask 0", "text 2"),
    ]
