import json

import pytest

from gecko_core.encode.rows import Columns, RowIds, read_rows
from gecko_core.encode.stream import Row
from gecko_core.errors import ConfigError, DataError


def test_jsonl(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"text": "x", "id": 7}\n\n{"text": "", "title": "T"}\n', encoding="utf-8")
    assert list(read_rows(path)) == [Row("x", None, "7"), Row("", "T", None)]


def test_csv_with_long_and_quoted_cells(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id,body\n1,"two\nlines"\n2,' + "x" * 300_000 + "\n", encoding="utf-8")
    rows = list(read_rows(path, Columns(text="body")))
    assert rows[0] == Row("two\nlines", None, "1")
    assert len(rows[1].text) == 300_000


def test_text_lines_keep_blank_ones(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one\r\n\ntwo", encoding="utf-8")
    assert [row.text for row in read_rows(path)] == ["one", "", "two"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["x", "y"], "id": [1, 2], "other": [0.5, 0.5]}), path)
    assert list(read_rows(path)) == [Row("x", None, "1"), Row("y", None, "2")]
    parquet.write_table(pa.table({"text": ["x", None]}), path)
    with pytest.raises(DataError, match="row 2: 'text' is empty"):
        list(read_rows(path))
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet"):
        list(read_rows(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n{"text": 3}\n', r"a\.jsonl:2: 'text' is int"),
        ("a.jsonl", '{"body": "x"}\n', r"a\.jsonl:1: 'text' is missing \(found: body\)"),
        ("a.jsonl", '{"text": "x"}\n{"te', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: a list; expected a JSON object"),
        ("a.jsonl", json.dumps({"text": "x", "title": [3]}), r"a\.jsonl:1: 'title' is list; it must be text"),
        ("a.jsonl", json.dumps({"text": "x", "id": 1.0}), r"a\.jsonl:1: id 1\.0 is a float; use text or whole"),
        ("a.csv", "id,body\n1,x\n", r"no column 'text' \(found: id, body\)"),
        ("a.csv", "", r"the file is empty"),
        ("a.csv", "text,id\n", None),
        ("a.xml", "x", r"unknown kind of file; give one of \.jsonl"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content, encoding="utf-8")
    if message is None:
        assert list(read_rows(tmp_path / name)) == []
        return
    with pytest.raises((DataError, ConfigError), match=message):
        list(read_rows(tmp_path / name))


def test_missing_and_not_utf8(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(read_rows(tmp_path / "a.txt"))
    (tmp_path / "a.txt").write_bytes(b"gr\xfc\xdfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_rows(tmp_path / "a.txt"))


def test_a_column_that_is_asked_for_by_name_must_be_there(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": "y", "key": 1}\n')
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "a.txt").write_text("x\n")
    assert [row.id for row in read_rows(tmp_path / "a.jsonl", Columns(id="key", asked=("key",)))] == [None, "1"]
    with pytest.raises(DataError, match=r"a\.jsonl: no row has a column 'Heading'; correct its name"):
        list(read_rows(tmp_path / "a.jsonl", Columns(title="Heading", asked=("Heading",))))
    with pytest.raises(DataError, match=r"a\.csv: no column 'Heading' \(found: text\)"):
        list(read_rows(tmp_path / "a.csv", Columns(title="Heading", asked=("Heading",))))
    with pytest.raises(ConfigError, match=r"a\.txt file has no columns|has no columns"):
        list(read_rows(tmp_path / "a.txt", Columns(id="key", asked=("key",))))


@pytest.mark.parametrize(
    ("given", "first", "second"),
    [
        (["1", None], 0, 1),
        ([None, "0"], 0, 1),
        (["a", None, "b", "a"], 0, 3),
        ([None, None, "7", "x", "1"], 1, 4),
    ],
)
def test_two_rows_of_one_id_are_named(given, first, second):
    ids = RowIds()
    for row in given[:-1]:
        ids.next(row)
    with pytest.raises(DataError, match=rf"^rows {first} and {second}, counted from 0, have the same id '.'") as error:
        ids.next(given[-1])
    assert ("without id" in str(error.value)) == (None in (given[first], given[second]))


def test_ids_that_only_look_like_row_numbers_are_others():
    ids = RowIds()
    given = [None, "01", "3", None, "-0", "\u0661", "9" * 30]
    with pytest.raises(DataError, match="rows 2 and 3"):
        [ids.next(row) for row in given]
    ids = RowIds()
    given[2] = "00"
    assert [ids.next(row) for row in given] == ["0", "01", "00", "3", "-0", "\u0661", "9" * 30]


def test_text_lines_that_end_in_carriage_returns_alone_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\rtwo\rthree\r")
    with pytest.raises(DataError, match=r"a\.txt:1: a carriage return within the line; end lines with"):
        list(read_rows(path))


def test_titles_under_another_name_matter_where_titles_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Title,text\nT,x\n")
    with pytest.raises(DataError, match=r"a\.csv: the column 'Title' is not read; call it 'title', or leave it out"):
        list(read_rows(path))
    assert list(read_rows(path, Columns(titled=False))) == [Row("x")]
    assert list(read_rows(path, Columns(title="Title"))) == [Row("x", "T")]


@pytest.mark.parametrize("name", ["title", "id"])
def test_a_column_of_texts_is_nothing_else(tmp_path, name):
    """Documents whose texts are in `title` had each text as its title, too, and so were encoded twice."""
    (tmp_path / "a.jsonl").write_text(json.dumps({name: "x", "text": "other"}) + "\n")
    (tmp_path / "a.csv").write_text(f"{name}\nx\n")
    for path in (tmp_path / "a.jsonl", tmp_path / "a.csv"):
        assert list(read_rows(path, Columns(text=name))) == [Row("x")]
    with pytest.raises(ConfigError, match=f"the column '{name}' is named for the texts and for the {name}s"):
        Columns(text=name, **{name: name})
