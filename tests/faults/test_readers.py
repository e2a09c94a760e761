"""Whatever a file or an answer holds: rows, or one line that says what is wrong. Never a traceback, never a guess."""

import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gecko_core.encode.rows import Columns, read_rows
from gecko_core.errors import GeckoError
from gecko_core.io import PartList, read_json, read_lines, read_table

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# Bytes as they are, and bytes that are nearly a table.
MARKS = [
    '"',
    ",",
    "\n",
    "\t",
    "\r\n",
    "text",
    "id",
    "a",
    "\ufeff",
    "\0",
    "{",
    "}",
    '"text": ',
    "é",
    "守宫",
    "\\ud800",
    "NaN",
]
CONTENT = st.binary(max_size=80) | st.lists(st.sampled_from(MARKS), max_size=25).map(
    lambda marks: "".join(marks).encode()
)


def outcome(read):
    """What is read, or the line for the user; anything else is a fault."""
    try:
        return "read", read()
    except GeckoError as error:
        text = str(error)
    assert text
    assert "\n" not in text
    return "refused", text


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.gz"])
@QUICK
@given(content=CONTENT)
def test_a_table_of_anything_is_rows_or_one_line(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    how, rows = outcome(lambda: list(read_table(path)))
    if how == "read":
        assert all(isinstance(row.fields, dict) and row.where.startswith(str(path)) for row in rows)
    outcome(lambda: list(read_rows(path, Columns())))


@QUICK
@given(content=CONTENT)
def test_a_text_file_of_anything_is_lines_or_one_line(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    how, lines = outcome(lambda: [line for _, line in read_lines(path)])
    if how == "read":
        assert "\n".join(lines).replace("\r", "").strip("\n") == content.decode().removeprefix("\ufeff").replace(
            "\r", ""
        ).strip("\n")


@QUICK
@given(content=CONTENT | JSON.map(lambda value: json.dumps(value).encode()))
def test_json_of_anything_is_an_object_or_one_line(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    how, value = outcome(lambda: read_json(path))
    if how == "read":
        assert isinstance(value, dict)


@QUICK
@given(value=JSON)
def test_a_list_of_parts_of_anything_lists_what_it_can(tmp_path, value):
    listed = PartList.from_json(tmp_path, json.loads(json.dumps(value)))
    assert all(listed.fault(name) for name in listed)


@QUICK
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"text": st.text(alphabet=string.printable + "é守\u2028", max_size=20), "id": st.integers()}
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rows_come_back_from_json_lines(tmp_path, rows):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [record.fields for record in read_table(path)] == rows


@QUICK
@given(content=CONTENT)
def test_judgements_of_anything_are_read_or_one_line(tmp_path, content):
    from gecko_eval.data import read_qrels

    path = tmp_path / "qrels.tsv"
    path.write_bytes(content)
    outcome(lambda: read_qrels(path, {"a", "text"}, {"a", "id"}))


@settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=200)
    | st.lists(st.sampled_from(["Task:", "Query:", "|", "\n", " ", '"', "<|end|>", "a b c", ":"]), max_size=30).map(
        "".join
    ),
    finished=st.booleans(),
    given_task=st.booleans(),
)
def test_an_answer_of_anything_is_a_query_or_a_reason(text, finished, given_task):
    from gecko_fret.answers import Answer, Unreadable, read_answer
    from gecko_fret.prompting import load_prompts

    prompts = load_prompts("default")
    kind = next(iter(prompts.kinds))
    found = read_answer(text, finished, kind, prompts, given=given_task)
    if isinstance(found, Answer):
        assert found.query.strip()
        assert "\n" not in found.query
    else:
        assert isinstance(found, Unreadable)
        assert found.reason
