import pytest

from gecko_core.errors import DataError
from gecko_eval.data.sts import load_sts


def test_mistakes_are_named(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "test.jsonl", [{"sentence1": "a", "sentence2": "b", "score": "high"}])
    with pytest.raises(DataError, match=r"test\.jsonl:1: the key 'score' is '.*', which is text; it must be a number"):
        load_sts(tmp_path)


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"test.jsonl: no rows in it; a set needs at least one"):
        load_sts(tmp_path)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([3, 3], "all 2 rows have the score 3; at least two are needed"),  # there is no correlation with it
        ([1, 10**400], r"test\.jsonl:2: the score is too large"),
    ],
)
def test_scores_that_nothing_can_be_compared_with(tmp_path, write_jsonl, scores, message):
    write_jsonl(tmp_path / "test.jsonl", [{"sentence1": "a", "sentence2": "b", "score": score} for score in scores])
    with pytest.raises(DataError, match=message):
        load_sts(tmp_path)
