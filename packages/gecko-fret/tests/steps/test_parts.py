import errno
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pytest

from gecko_core.errors import DataError
from gecko_core.io import PartList
from gecko_fret.steps.parts import Layout, Parts, arrow_type, is_readable, layout_of, rows_of


@dataclass(frozen=True, slots=True)
class Inner:
    name: str
    value: Annotated[float, pa.float64()]


@dataclass(frozen=True, slots=True)
class Row:
    a: int
    b: str | None
    many: list[float] = field(default_factory=list)
    inner: list[Inner] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Short:
    a: int
    b: str | None


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "step", layout_of(Short))


def test_rows_and_counters_come_back(parts):
    rows = [Short(1, "x"), Short(2, None)]
    parts.write(3, rows, {"tokens": 7, "pairs": 2})
    assert parts.numbers() == [3]
    assert parts.exists(3)
    assert parts.rows(3) == rows
    assert parts.count(3) == 2
    assert parts.counters(3) == {"tokens": 7, "pairs": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_folders_whose_names_are_not_utf_8(tmp_path):
    parts = Parts(tmp_path / os.fsdecode(b"\xe9"), layout_of(Short))
    parts.write(0, [Short(1, "x")])
    assert parts.rows(0) == [Short(1, "x")]
    assert parts.count(0) == rows_of(parts.path(0)) == 1
    assert is_readable(parts.path(0))


def test_empty_part_is_a_part(parts):
    parts.write(0, [])
    assert parts.numbers() == [0]
    assert parts.rows(0) == []
    assert parts.counters(0) == {}


def test_iteration_follows_part_numbers(parts):
    for number in (10, 2, 0):
        parts.write(number, [Short(number, "")])
    assert [row.a for row in parts] == [0, 2, 10]


def test_prefixes_share_a_folder(tmp_path):
    one, two = Parts(tmp_path, layout_of(Short), "one"), Parts(tmp_path, layout_of(Short), "two")
    one.write(0, [Short(1, "")])
    two.write(1, [])
    assert (one.numbers(), two.numbers()) == ([0], [1])
    one.clear()
    assert (one.numbers(), two.numbers()) == ([], [1])


def test_a_part_that_may_not_be_read_is_not_called_damaged(parts, monkeypatch):
    def as_another_user(path, *args):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", as_another_user)
    with pytest.raises(
        DataError, match=r"part-00000\.parquet: cannot be read \(Permission denied\); see its permissions"
    ):
        parts.rows(0)


def test_missing_damaged_and_foreign_parts_are_named(parts):
    with pytest.raises(DataError, match="part is missing"):
        parts.rows(0)
    parts.write(0, [Short(1, "")])
    parts.path(0).write_bytes(parts.path(0).read_bytes()[:-20])
    for read in (parts.rows, parts.count):
        with pytest.raises(DataError, match=r"part-00000\.parquet: the part is damaged .* run the same build again"):
            read(0)
    foreign: Layout = Layout(pa.schema([("c", pa.int32())]), lambda row: row, lambda record: record)
    Parts(parts.folder, foreign).write(0, [{"c": 1}])
    with pytest.raises(DataError, match="no column 'a'"):
        parts.rows(0)


def test_columns_are_the_fields_in_their_order():
    assert layout_of(Row).schema == pa.schema(
        [
            ("a", pa.int32()),
            ("b", pa.string()),
            ("many", pa.list_(pa.float32())),
            ("inner", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
        ]
    )
    assert arrow_type(list[dict[str, float]], ["ql", "yes-no"]) == pa.list_(
        pa.struct([("ql", pa.float32()), ("yes-no", pa.float32())])
    )
    assert arrow_type(bool) == pa.bool_()


def test_nested_rows_are_written(tmp_path):
    parts = Parts(tmp_path, layout_of(Row))
    parts.write(0, [Row(1, None, [0.5], [Inner("x", 0.1)])])
    assert parts.table(0).to_pylist() == [{"a": 1, "b": None, "many": [0.5], "inner": [{"name": "x", "value": 0.1}]}]
    assert parts.total() == 1


def test_optional_columns_are_read_where_they_are(tmp_path):
    whole = layout_of(Inner)
    without = replace(whole, schema=whole.schema.remove(1), optional=("value",), decode=dict)
    Parts(tmp_path, whole).write(0, [Inner("x", 0.5)])
    Parts(tmp_path, without).write(1, [Inner("y", 0.5)])
    parts = Parts(tmp_path, without)
    assert (parts.rows(0), parts.rows(1)) == ([{"name": "x", "value": 0.5}], [{"name": "y"}])


def test_a_reader_with_a_list_takes_nothing_but_what_was_written(tmp_path):
    listed = PartList(tmp_path)
    parts = Parts(tmp_path / "step", layout_of(Short), listed=listed)
    for number in range(3):
        parts.write(number, [Short(number, "x")])
        listed.note(f"step/part-{number:05d}.parquet", 1)
    parts.check()
    assert len(list(parts)) == 3
    parts.write(1, [Short(9, "another")])
    with pytest.raises(
        DataError, match=r"part-00001\.parquet: the part is damaged .it is not what was written.; run the"
    ):
        parts.rows(1)
    parts.path(1).unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet: the part is missing; run the same build again"):
        parts.check()
    parts.write(1, [Short(1, "x")])
    parts.write(7, [Short(7, "x")])
    with pytest.raises(DataError, match=r"part-00007\.parquet: the part is not of this build"):
        parts.check()


def test_what_can_be_read_to_its_end(tmp_path):
    Parts(tmp_path, layout_of(Short)).write(0, [Short(1, "a"), Short(2, "b")])
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    (tmp_path / "a.json").write_text("{}")
    files = [tmp_path / "part-00000.parquet", tmp_path / "a.npy", tmp_path / "a.json"]
    assert [rows_of(path) for path in files] == [2, 3, 0]
    assert all(map(is_readable, files))
    for path in files:
        path.write_bytes(path.read_bytes()[:-1])
    assert not any(map(is_readable, files))
