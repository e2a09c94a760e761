import gzip
import json
import os
import sys

import pytest

from gecko_core.errors import DataError
from gecko_core.io import (
    Record,
    below_data_dir,
    count_rows,
    find_data,
    read_hub,
    read_lines,
    read_table,
    table_kind,
    user_path,
)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def fields(path, **options):
    return [record.fields for record in read_table(path, **options)]


def write_table(path, names, rows):
    if path.suffix == ".parquet":
        from pyarrow import parquet, table

        parquet.write_table(table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    elif path.suffix == ".jsonl":
        written(path, "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        written(path, "".join(mark.join(row) + "\n" for row in [names, *rows]))


def test_kinds_of_file():
    names = ("a.jsonl", "a.JSONL.gz", "b.c.csv", "a.tsv.gz", "a.parquet", "a.parquet.gz", "a.txt", "jsonl")
    assert [table_kind(name) for name in names] == [".jsonl", ".jsonl", ".csv", ".tsv", ".parquet", None, None, None]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_text_tables_plain_and_zipped(tmp_path, ending):
    def file(name, text):
        return written(tmp_path / f"{name}{ending}", gzip.compress(text.encode()) if ending else text)

    rows = [{"id": "1", "text": 'a "b", c'}, {"id": "2", "text": "two\nlines"}]
    csv = file("a.csv", '\ufeffid,text\n1,"a ""b"", c"\n2,"two\nlines"\n')
    tsv = file("a.tsv", '\ufeffid\ttext\n1\ta "b", c\n2\t"two\nlines"\n')
    jsonl = file("a.jsonl", "\ufeff" + "\n\n".join(map(json.dumps, rows)) + "\n")
    assert fields(csv) == fields(tsv) == fields(jsonl) == rows
    assert [(r.number, r.where) for r in read_table(csv)] == [(1, f"{csv}:2"), (2, f"{csv}:4")]
    assert [(r.number, r.where) for r in read_table(jsonl)] == [(1, f"{jsonl}:1"), (3, f"{jsonl}:3")]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("ending", ["parquet", "jsonl", "jsonl.gz", "csv"])
def test_names_that_are_not_utf_8(tmp_path, ending):
    path = tmp_path / os.fsdecode(b"\xe9") / os.fsdecode(b"\xff." + ending.encode())
    path.parent.mkdir()
    if ending == "parquet":
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        with path.open("wb") as opened:
            parquet.write_table(pa.table({"text": ["x"]}), opened)
    else:
        text = b"text\nx\n" if ending == "csv" else b'{"text": "x"}\n'
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    assert fields(path) == [{"text": "x"}]
    if ending == "parquet":
        assert count_rows(path) == 1
    path.write_bytes(b"nonsense")
    with pytest.raises(DataError):
        fields(path, need=("text",))


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["x", None], "id": [1, 2], "other": [0.5, float("nan")]}), path)
    assert list(read_table(path, only=("text", "other", "absent"))) == [
        Record(1, f"{path}, row 1", {"text": "x", "other": 0.5}),
        Record(2, f"{path}, row 2", {"text": None, "other": None}),
    ]
    assert count_rows(path) == 2
    assert count_rows(tmp_path / "a.csv") is None
    with pytest.raises(DataError, match=r"no column 'body' \(found: text, id, other\)"):
        fields(path, need=("body",))
    written(path, b"PAR1 nonsense")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        fields(path)
    assert count_rows(path) is None


def test_large_cells(tmp_path):
    assert fields(written(tmp_path / "a.csv", "text\n" + "x" * 300_000 + "\n")) == [{"text": "x" * 300_000}]


def test_nan_is_a_missing_value_at_any_depth(tmp_path):
    text = '{"title": NaN, "p": [{"title": NaN, "text": "x"}]}'
    wanted = [{"title": None, "p": [{"title": None, "text": "x"}]}]
    assert fields(written(tmp_path / "a.jsonl", text)) == wanted
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    nested = [{"title": float("nan"), "p": [{"title": float("nan"), "text": "x"}]}]
    parquet.write_table(pa.Table.from_pylist(nested), tmp_path / "a.parquet")
    assert fields(tmp_path / "a.parquet") == wanted


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_no_line_or_cell_grows_without_end(tmp_path, name, monkeypatch):
    """A quote that is not closed takes in line after line; a .gz of a megabyte may hold a line of gigabytes."""
    monkeypatch.setattr("gecko_core.io.tables._LONGEST", 1000)
    rows = "".join(f"{number},row\n" for number in range(1000))
    for text in ("text\n" + "x" * 2000 + "\n", 'id,text\n1,"open\n' + rows):
        text = text.replace(",", "\t") if name == "a.tsv" else text
        file = written(tmp_path / name, gzip.compress(text.encode()) if name.endswith(".gz") else text)
        with pytest.raises(DataError, match=r"a\.\w+(\.gz)?:\d+: (a line of more than|not a row|not JSON)"):
            fields(file)


def test_home_folders():
    assert str(user_path("a/~b")) == "a/~b"
    with pytest.raises(DataError, match="~nosuchuser/x: there is no user of that name"):
        user_path("~nosuchuser/x")


WHOLE = gzip.compress(b'{"query":"a b","positive":"c d"}\n' * 2000)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"te', r"a\.jsonl:2: not JSON \(.*, column \d+\); one object per line"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: a list; expected a JSON object"),
        ("a.jsonl", "null\n", r"a\.jsonl:1: null; expected a JSON object"),
        ("a.jsonl", "5\n", r"a\.jsonl:1: a number; expected a JSON object"),
        ("a.jsonl", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", r"a\.jsonl:1: not JSON that can be read"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}", r"a\.jsonl:1: not JSON that can be read"),
        ("a.jsonl", '{"a": Infinity}', r"a\.jsonl:1: not JSON that can be read \(Infinity"),
        ("a.jsonl", '{"a": 1e999}', r"a\.jsonl:1: not JSON that can be read \(1e999 is too large"),
        ("a.jsonl", '{"a": 1, "b": {"c": 1, "c": 2}}', r"a\.jsonl:1: .* \(the key 'c' occurs twice in one object\)"),
        ("a.jsonl", '{"a": [{"b": "x\\ud800"}]}', r"a\.jsonl:1: 'a' holds half of a surrogate pair"),
        ("a.jsonl", '{"a\\ud800": 1}', r"a\.jsonl:1: 'a\\ud800' holds half of a surrogate pair"),
        ("a.jsonl", '{"a": "x\\ud800"}', r"a\.jsonl:1: 'a' holds half of a surrogate pair \(U\+D800\)"),
        ("a.jsonl", b'{"a": "ok"}\n{"a": "\xff"}', r"a\.jsonl:2: not UTF-8 at byte 19 \(0xff\)"),
        ("a.jsonl", "", "the file is empty"),
        ("a.jsonl.gz", WHOLE[: len(WHOLE) // 2], "not a whole gzip file"),
        ("a.jsonl.gz", WHOLE[:40] + bytes([WHOLE[40] ^ 0xFF]) + WHOLE[41:], "not a whole gzip file"),
        ("a.jsonl.gz", b"plain", "not a whole gzip file"),
        ("a.csv", "id,text\n1,Paris, the capital\n", r"a\.csv:2: 3 cells where the header has 2"),
        ("a.csv", "id,text\n1\n", r"a\.csv:2: 1 cells where the header has 2"),
        ("a.csv", 'id,text\n1,"no second mark\n3,third\n', "not a row of a table"),
        ("a.csv", 'id,text\n1,"a" b\n', r"a\.csv:2: not a row of a table"),
        ("a.tsv", 'query\ttext\nx\t"no second mark\ny\tz\n', "not a row of a table"),
        ("a.tsv", 'id\ttext\n1\t"To be\n2\tplain\n3\tsaid Hamlet."\n', r"a\.tsv:4: a cell in quotes holds a whole row"),
        ("a.tsv", 'id\ttext\n1\t"To be\n2\tsaid Hamlet."\n', r"a\.tsv:3: a cell in quotes holds a whole row"),
        ("a.tsv", 'text\n"To be\nsaid Hamlet."\n', r"a\.tsv:3: a cell in quotes holds a whole row"),
        ("a.csv", "id;text\n1;x\n", "no column 'text' .*columns are separated by ',' here, not by ';'"),
        ("a.csv", "text,text\n1,2\n", "names column 'text' twice"),
        ("a.xml", "x", r"unknown kind of file; \.jsonl, .* are read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as caught:
        fields(written(tmp_path / name, content), need=("text",))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        fields(tmp_path / "a.csv")
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        fields(tmp_path / "b.csv")


def test_lines(tmp_path):
    path = written(tmp_path / "a.txt", "\ufeffone\r\n\ntwo\u2028three")
    assert list(read_lines(path)) == [(1, "one"), (2, ""), (3, "two\u2028three")]


def test_data_is_found_as_named_or_below_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "data" / "scifact").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GECKO_DATA_DIR", raising=False)
    with pytest.raises(DataError, match="scifact: no such file or folder, also not below GECKO_DATA_DIR"):
        find_data("scifact")
    monkeypatch.setenv("GECKO_DATA_DIR", str(tmp_path / "data"))
    assert find_data("scifact") == tmp_path / "data" / "scifact"
    assert str(below_data_dir("none")) == "none"
    (tmp_path / "scifact").mkdir()
    assert str(find_data("scifact")) == "scifact"


def test_many_columns(tmp_path):
    """Counting every name in all of them would take minutes; the message lists some."""
    names = [f"c{i}" for i in range(100_000)]
    many = ",".join(names)
    assert fields(written(tmp_path / "a.csv", f"{many}\n{many}\n"))[0]["c99999"] == "c99999"
    with pytest.raises(DataError, match=r"no column 'text' \(found: c0, .*, c19 and 99,980 more\)"):
        fields(tmp_path / "a.csv", need=("text",))
    with pytest.raises(DataError, match="names column 'c99999' twice"):
        fields(written(tmp_path / "a.csv", f"{many},c99999\n"))
    keys = ", ".join(f'"{name}": 1' for name in [*names, "c99999"])
    with pytest.raises(DataError, match="the key 'c99999' occurs twice"):
        fields(written(tmp_path / "a.jsonl", f"{{{keys}}}\n"))


@pytest.mark.parametrize("beside", [{}, {"text": ["x", "y"]}])
def test_dates_that_python_has_not_are_nothing_that_a_reader_takes(tmp_path, beside):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    far = pa.array([0, 2**60], pa.timestamp("ms"))
    parquet.write_table(pa.table({**beside, "made": far}), tmp_path / "a.parquet")
    first, second = fields(tmp_path / "a.parquet")
    assert (first["made"].year, repr(second["made"])) == (1970, "<timestamp[ms] out of range>")
    assert [row.get("text") for row in (first, second)] == beside.get("text", [None, None])
    for record in read_table(tmp_path / "a.parquet"):
        with pytest.raises(DataError, match="made"):
            record.identifier("made")


@pytest.mark.parametrize("kind", ["date32", "date64", "timestamp", "duration"])
def test_whatever_python_cannot_hold_has_a_name(tmp_path, kind):
    """Arrow's own scalars of dates raise when a message shows them."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    types = {"date32": pa.date32(), "date64": pa.date64(), "timestamp": pa.timestamp("s")}
    types |= {"duration": pa.duration("s")}
    values = pa.array([2**30 if kind == "date32" else 2**50], pa.int32() if kind == "date32" else pa.int64())
    parquet.write_table(pa.table({"id": values.cast(types[kind], safe=False)}), tmp_path / "a.parquet")
    (record,) = read_table(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"row 1.*id") as caught:
        record.identifier("id")
    assert "out of range" in str(caught.value)


def test_text_of_parquet_that_is_not_utf_8_names_row_and_column(tmp_path):
    """Its column was left out for 4,096 rows: ids, titles, negatives."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = pa.array([b"a", b"b\xe9", b"c"]).cast(pa.string(), safe=False)
    parquet.write_table(pa.table({"id": names, "text": ["x", "y", "z"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet, column 'id', row 2: not valid UTF-8"):
        fields(tmp_path / "a.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"a\.txt: not a file"):
        list(read_lines(tmp_path / "a.txt"))
    pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: not a file"):
        fields(tmp_path / "a.parquet")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_optional_columns_under_another_name_are_not_passed_over(tmp_path, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a.{ending}"
    for name, meant in (("Title", "title"), (" title", "title"), ("TEXT", "text")):
        write_table(path, ["id", name], [["1", "x"]])
        with pytest.raises(DataError, match=rf"a\.{ending}.*: the column '{name}' is not read; call it '{meant}', or"):
            list(read_table(path, optional=("title", "text")))
        assert len(list(read_table(path))) == 1
    write_table(path, ["Title", "title"], [["x", "y"]])  # the one that is read is there
    assert len(list(read_table(path, optional=("title",)))) == 1


def test_a_column_of_parquet_that_is_there_twice(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="names column 'text' twice"):
        fields(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", ["one\rtwo\rthree", "one\n\rtwo\n", "one\rtwo\r\n"])
def test_carriage_returns_alone_end_no_line(tmp_path, text):
    with pytest.raises(DataError, match=r"a\.txt:\d: a carriage return within the line"):
        list(read_lines(written(tmp_path / "a.txt", text.encode())))
    assert "".join(line for _, line in read_lines(tmp_path / "a.txt", prose=True)).count("\r") > 0
    assert list(read_lines(written(tmp_path / "a.txt", b"one\r\r\ntwo\r"))) == [(1, "one"), (2, "two")]


def test_a_parquet_file_that_ends_before_its_rows_do(tmp_path, monkeypatch):
    """One flipped bit in a page's header, and pyarrow reads fewer rows than the footer says, without an error."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": [f"text {row}" for row in range(40)]}), path, row_group_size=10)
    whole = parquet.ParquetFile.iter_batches
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *given, **more: list(whole(*given, **more))[:1])
    monkeypatch.setattr("gecko_core.io.tables._PARQUET_ROWS", 10)
    with pytest.raises(DataError, match=r"a\.parquet: 40 rows by its footer, 10 read; it is damaged"):
        fields(path)


def test_a_data_set_of_the_hub_without_a_name():
    with pytest.raises(DataError, match=r"hub:: names no data set; write hub:OWNER/NAME"):
        next(read_hub(""))
