import pytest

from gecko_core.errors import DataError
from gecko_eval.data.files import find_file, holds, only_one


def test_the_one_that_is_there(tmp_path):
    names = [tmp_path / "a.csv", tmp_path / "a.tsv"]
    assert only_one(names) is None
    names[1].touch()
    assert only_one(names) == names[1]
    names[0].touch()
    with pytest.raises(DataError, match=r"holds a\.csv and a\.tsv, of which one alone would be read"):
        only_one(names)


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "corpus.jsonl").mkdir()
    (tmp_path / "queries.jsonl").symlink_to(tmp_path / "gone")
    for name in ("corpus.jsonl", "queries.jsonl"):
        with pytest.raises(DataError, match=rf"{name}: is no file; put the data in its place"):
            find_file(tmp_path, name)
    with pytest.raises(DataError, match=r"neither test\.jsonl nor test\.jsonl\.gz is there"):
        find_file(tmp_path, "test.jsonl")


def test_a_file_or_its_compressed_copy(tmp_path):
    assert not holds(tmp_path, "a.jsonl")
    for name in ("a.jsonl", "b.jsonl.gz"):
        (tmp_path / name).touch()
    assert holds(tmp_path, "a.jsonl")
    assert holds(tmp_path, "b.jsonl")
