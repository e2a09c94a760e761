import pyarrow as pa
import pytest

from gecko_core.errors import DataError
from gecko_fret.build.parts import Parts

SCHEMA = pa.schema([("a", pa.int32()), ("b", pa.string())])


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "stage", SCHEMA)


def test_rows_and_counters_come_back(parts):
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    parts.write(3, rows, {"tokens": 7, "pairs": 2})
    assert parts.numbers() == [3]
    assert parts.exists(3)
    assert parts.rows(3) == rows
    assert parts.count(3) == 2
    assert parts.counters(3) == {"tokens": 7, "pairs": 2}


def test_empty_part_is_a_part(parts):
    parts.write(0, [])
    assert parts.numbers() == [0]
    assert parts.rows(0) == []
    assert parts.counters(0) == {}


def test_iteration_follows_part_numbers(parts):
    for number in (10, 2, 0):
        parts.write(number, [{"a": number, "b": ""}])
    assert [row["a"] for row in parts] == [0, 2, 10]


def test_prefixes_share_a_folder(tmp_path):
    one, two = Parts(tmp_path, SCHEMA, "one"), Parts(tmp_path, SCHEMA, "two")
    one.write(0, [{"a": 1, "b": ""}])
    two.write(1, [])
    assert (one.numbers(), two.numbers()) == ([0], [1])
    assert one.clear() == 1
    assert (one.numbers(), two.numbers()) == ([], [1])


def test_missing_damaged_and_foreign_parts_are_named(parts):
    with pytest.raises(DataError, match="part is missing"):
        parts.rows(0)
    parts.write(0, [{"a": 1, "b": ""}])
    parts.path(0).write_bytes(parts.path(0).read_bytes()[:-20])
    for read in (parts.rows, parts.count):
        with pytest.raises(DataError, match=r"part-00000\.parquet: the part is damaged .* delete it"):
            read(0)
    Parts(parts.folder, pa.schema([("c", pa.int32())])).write(0, [{"c": 1}])
    with pytest.raises(DataError, match="no column 'a'"):
        parts.rows(0)
