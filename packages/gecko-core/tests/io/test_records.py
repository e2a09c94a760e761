import datetime

import pytest

from gecko_core.errors import DataError
from gecko_core.io import Record
from gecko_core.io.records import listed


def record(**fields):
    return Record(3, "a.jsonl:3", fields)


def test_ids_are_text_or_whole_numbers_of_the_first_field_that_has_one():
    assert record(id="a", _id="b").identifier("id", "_id") == "a"
    assert record(id=None, _id="b").identifier("id", "_id") == "b"
    assert record(id="", _id=0).identifier("id", "_id") == "0"
    assert record(text="x").identifier("id", "_id") is None


@pytest.mark.parametrize("value", [1.0, True, ["a"], {"a": 1}, b"a", datetime.date(2026, 1, 2)])
def test_nothing_else_is_an_id_or_a_title(value):
    with pytest.raises(DataError, match=rf"a\.jsonl:3: id .* is a {type(value).__name__}; use text or whole numbers"):
        record(id=value).identifier("id")
    with pytest.raises(DataError, match=rf"a\.jsonl:3: 'title' is {type(value).__name__}; it must be text"):
        record(title=value).optional_text("title")
    with pytest.raises(DataError, match=rf"a\.jsonl:3: 'text' is {type(value).__name__}, not text"):
        record(text=value).text("text")


def test_texts():
    assert record(text="").text("text") == ""
    assert record(title=" x ").optional_text("title") == " x "
    assert record(title=1984).optional_text("title") == "1984"
    assert record(title=" ").optional_text("title") is record().optional_text("title") is None
    with pytest.raises(DataError, match=r"'text' is missing \(found: body\); every row needs it"):
        record(body="x").text("text")
    with pytest.raises(DataError, match="'text' is empty"):
        record(text=None).text("text")


def test_a_message_lists_twenty_names_at_most():
    fields = {f"c{i}": "" for i in range(20)}
    with pytest.raises(DataError, match=r"\(found: c0, .*, c19\)"):
        Record(1, "a:1", fields).text("text")
    fields |= {f"d{i}": "" for i in range(1200)}
    with pytest.raises(DataError, match=r"\(found: c0, .*, c19 and 1,200 more\); every row needs it"):
        Record(1, "a:1", fields).text("text")
    with pytest.raises(DataError, match=r"\(found: x{80}\)"):
        Record(1, "a:1", {"x" * 1000: ""}).text("text")


def test_names_of_columns_are_listed_on_one_line():
    assert listed(["a", "b\nc\x1b[2J"]) == "a, b\\nc\\x1b[2J"
    assert listed([]) == "none"
    assert listed([str(number) for number in range(50)]).endswith("19 and 30 more")
