import errno
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import DataError
from gecko_fret import atomic
from gecko_fret.atomic import atomic_path, write_json, write_parquet


def test_content_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"v": 1})
    with pytest.raises(TypeError):
        write_json(path, {"v": object()})
    assert json.loads(path.read_text()) == {"v": 1}


def test_same_table_gives_same_bytes(tmp_path):
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    for name in ("1", "2"):
        write_parquet(tmp_path / name, table)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert pq.read_table(tmp_path / "1").equals(table)


def test_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_flush", full)
    with pytest.raises(DataError, match="no space left on the disk"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})
