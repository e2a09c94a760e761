import pytest

from gecko_core.errors import DataError
from gecko_eval.data.sts import load_sts


def test_mistakes_are_named(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "test.jsonl", [{"sentence1": "a", "sentence2": "b", "score": "high"}])
    with pytest.raises(DataError, match=r"test.jsonl:1: expected sentence1, sentence2 and a number as score"):
        load_sts(tmp_path)


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"test.jsonl: no rows in it; a set needs at least one"):
        load_sts(tmp_path)
