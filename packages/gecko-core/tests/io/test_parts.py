import json
import shutil
import threading

import pytest

from gecko_core.errors import DataError
from gecko_core.io import Part, PartList, read_parts


@pytest.fixture
def listed(tmp_path):
    """Two parts, listed."""
    parts = PartList(tmp_path)
    for name, content in (("a/1", b"one"), ("a/2", b"two")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        parts.note(name, len(content))
    return parts


def test_a_list_comes_back_as_it_was(listed, tmp_path):
    again = PartList.from_json(tmp_path, json.loads(json.dumps(listed.to_json())))
    assert list(again) == ["a/1", "a/2"]
    assert again["a/1"] == listed["a/1"] == Part(3, listed["a/1"].sha256)
    assert all(again.fault(name) is None for name in again)


def test_a_part_is_sound_only_as_it_was_written(listed, tmp_path):
    one, two = tmp_path / "a/1", tmp_path / "a/2"
    one.write_bytes(b"onf")
    assert listed.fault("a/1") == "not what was written"
    one.write_bytes(b"on")
    assert listed.fault("a/1") == "not what was written"
    shutil.copy(two, one)
    assert listed.fault("a/1") == "not what was written"
    one.unlink()
    assert listed.fault("a/1") == "missing"
    assert listed.fault("a/2") is None
    with pytest.raises(DataError, match=r"a/1: the part is damaged or lost \(missing\); do this"):
        listed.check("a/1", "do this")
    listed.check("a/2", "do this")


def test_a_part_that_is_not_listed_is_not_of_this_run(listed, tmp_path):
    shutil.copy(tmp_path / "a/1", tmp_path / "a/3")
    assert listed.fault("a/3") == "not a part of this run"
    assert listed.drop("a/1") is not None
    assert listed.drop("a/1") is None
    assert "a/1" not in listed
    assert len(listed) == 1


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"a/1": 5, "a/2": {"rows": "3", "sha256": "x"}}', "\\0"])
def test_a_damaged_list_lists_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "parts.json").write_text(content)
    assert len(PartList.read(tmp_path)) == 0


def test_a_part_that_cannot_be_read_is_not_listed(tmp_path):
    with pytest.raises(DataError, match="a: cannot be read"):
        PartList(tmp_path).note("a", 1)


def test_processes_that_share_a_folder_lose_nothing(tmp_path):
    """Each has its own list in memory, and all write the same file."""
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(bytes([number]))

    def work(first):
        mine = PartList.read(tmp_path)
        for number in range(first, 20, 4):
            mine.note(f"{number}", number)
            mine.write()

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = PartList.read(tmp_path)
    assert len(found) == 20
    assert all(found.fault(name) is None for name in found)


def test_rows_of_listed_parts_are_read_in_order(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder = tmp_path / "step"
    folder.mkdir()
    parts = PartList(tmp_path)
    for number in (1, 0):
        pq.write_table(pa.table({"n": [number], "more": ["x"]}), folder / f"part-0000{number}.parquet")
        parts.note(f"step/part-0000{number}.parquet", 1)
    pq.write_table(pa.table({"n": [9]}), folder / "part-00009.parquet")  # of nobody

    def rows(listed, step="step", **options):
        return [record.fields for record in read_parts(tmp_path, step, listed, ("n", "absent"), "mend it", **options)]

    assert rows(parts, need=("n",)) == [{"n": 0}, {"n": 1}]
    assert rows(PartList(tmp_path), need=("n",)) == [{"n": 0}, {"n": 1}, {"n": 9}]
    with pytest.raises(DataError, match="no column 'absent'"):
        rows(parts)
    with pytest.raises(DataError, match="other: no part there; mend it"):
        rows(parts, "other")
    (folder / "part-00001.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"damaged or lost .*; mend it"):
        rows(parts, need=("n",))
