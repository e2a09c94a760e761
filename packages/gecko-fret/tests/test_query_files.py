import gzip

import pytest

from gecko_core.errors import DataError
from gecko_fret.query_files import UserQuery, queries_fingerprint, read_queries


def test_one_query_a_line(tmp_path):
    path = tmp_path / "queries.txt"
    path.write_text("how do I  sort a list\n\n  why is the sky blue \n")
    assert read_queries(path) == [UserQuery(1, "how do I sort a list"), UserQuery(3, "why is the sky blue")]
    packed = tmp_path / "queries.txt.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_queries(packed) == read_queries(path)
    assert queries_fingerprint(packed) == queries_fingerprint(path)
    path.write_text("how do I sort a list\n\nwhy is the sky black\n")
    assert queries_fingerprint(packed) != queries_fingerprint(path)


def test_tables_name_their_column(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"_id": "1", "text": "first"}\n{"query": "second", "text": "not this"}\n')
    assert [query.text for query in read_queries(path)] == ["first", "second"]
    path = tmp_path / "q.csv"
    path.write_text("id,query\n1,a\n2,b\n")
    assert [query.text for query in read_queries(path)] == ["a", "b"]


def test_paths_below_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GECKO_DATA_DIR", str(tmp_path))
    (tmp_path / "mine.txt").write_text("a query\n")
    assert read_queries("mine.txt")[0].text == "a query"


@pytest.mark.parametrize("name", ["q.txt", "q.TEXT", "q.log", "q", "q.2024.txt"])
def test_lines_are_read_of_plain_text(tmp_path, name):
    (tmp_path / name).write_text("{curly} braces in a query\n{}[] what is it\n")
    assert [query.text for query in read_queries(tmp_path / name)] == ["{curly} braces in a query", "{}[] what is it"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.txt", "\n \n", "q.txt: holds no query"),
        ("q.ndjson", '{"query": "a"}\n', "not read from '.ndjson'; save a table as one of .jsonl"),
        ("q.json", '[{"query": "a"}]\n', "not read from '.json'"),
        ("q.xml", "<query>a</query>\n", "not read from '.xml'; .* queries one a line as .txt"),
        ("q.csv.txt", "id,query\n1,a\n", "not read from '.csv.txt'"),
        ("q.parquet.gz", "a", "not read from '.parquet'"),
        ("q.txt", 'a\n {"query": "b"}\n', "q.txt:2: a JSON object in a file of plain lines; save the file as .jsonl"),
        ("q.jsonl", '{"query": "", "text": "a passage"}\n', "q.jsonl:1: no text in 'query'"),
        ("q.jsonl", '{"query": null, "text": "a passage"}\n', "q.jsonl:1: no text in 'query'"),
        ("q.jsonl", '{"question": "a"}\n', r"q.jsonl:1: no text in 'query' or 'text' \(columns: question\)"),
        ("q.jsonl", '{"query": "a"}\n{"query": 12}\n', "q.jsonl:2: 'query' is 12, which is no text; write it as one"),
        ("q.jsonl", '{"text": ["a"]}\n', r"q.jsonl:1: 'text' is \['a'\], which is no text"),
        ("q.csv", "query\n1\n \n", "q.csv.*: no text in 'query'"),
        ("absent.txt", None, "absent.txt: no such file"),
        ("folder", "", "is a folder"),
    ],
)
def test_faults_are_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_queries(path)
    assert "\n" not in str(caught.value)
