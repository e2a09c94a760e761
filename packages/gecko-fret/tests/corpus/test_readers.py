import gzip
import json
import os

import pytest

from gecko_core.errors import DataError
from gecko_fret.corpus.readers import corpus_name, read_passages


def test_rows_are_read_one_at_a_time(tmp_path):
    """A fault in a late row shows only when that row is reached: nothing reads ahead."""
    path = tmp_path / "c.jsonl"
    path.write_text("\n".join([json.dumps({"text": "fine"})] * 3 + ["broken"]), encoding="utf-8")
    stream = read_passages(path)
    assert [next(stream).text for _ in range(3)] == ["fine"] * 3
    with pytest.raises(DataError, match=r"c\.jsonl:4"):
        next(stream)


def test_byte_order_mark_is_no_part_of_the_data(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufefftext,id\nhello,1\n".encode())
    (tmp_path / "b.jsonl").write_bytes(("\ufeff" + json.dumps({"text": "hello"})).encode())
    assert [p.text for name in ("a.csv", "b.jsonl") for p in read_passages(tmp_path / name)] == ["hello", "hello"]


def test_quoted_lines_and_missing_optional_values_of_csv(tmp_path):
    (tmp_path / "a.csv").write_text('title,text\n,"two\nlines"\n T ,b\n', encoding="utf-8")
    rows = list(read_passages(tmp_path / "a.csv"))
    assert [(p.title, p.text) for p in rows] == [(None, "two\nlines"), ("T", "b")]


def test_unsplit_files_are_single_passages(tmp_path):
    (tmp_path / "a.md").write_text("# One\n\nfirst\n\n# Two\n\nsecond", encoding="utf-8")
    (passage,) = read_passages(tmp_path, split="never")
    assert (passage.id, passage.title, passage.text) == ("a.md", "One", "first\n\nsecond")


def test_hidden_files_of_a_folder_are_left_out_and_listed(tmp_path):
    for name, text in (("a.txt", b"seen"), ("._a.txt", b"\x00\x05\x16\x07\xff"), (".git/b.md", b"no note")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text)
    dropped = []
    assert [passage.text for passage in read_passages(tmp_path, dropped=dropped)] == ["seen"]
    assert [(one.id, one.reason) for one in dropped] == [("._a.txt", "hidden"), (".git", "hidden")]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(DataError, match=r"no \.txt, .* file that is not hidden in this folder"):
        list(read_passages(tmp_path, dropped=dropped))


def test_names():
    assert corpus_name("some/where/c.jsonl") == "c.jsonl"
    assert corpus_name("hub:owner/set") == "hub:owner/set"


def test_unreachable_hub_set_is_one_line(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def fail(*args, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match="hub:a/b: cannot be read") as caught:
        list(read_passages("hub:a/b"))
    assert "\n" not in str(caught.value)


def test_hub_set_is_streamed(monkeypatch):
    datasets = pytest.importorskip("datasets")
    calls = []

    def load(name, config=None, *, split, streaming):
        calls.append((name, split, streaming))
        return iter([{"text": "one"}, {"text": "two", "id": "b"}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert [p.id for p in read_passages("hub:a/b:validation")] == ["0", "b"]
    assert calls == [("a/b", "validation", True)]


def test_compressed_tables_in_beir_layout(tmp_path):
    path = tmp_path / "corpus.jsonl.gz"
    whole = gzip.compress(
        "".join(json.dumps({"_id": f"d{i}", "text": f"{i} text"}) + "\n" for i in range(300)).encode()
    )
    path.write_bytes(whole)
    assert [p.id for p in read_passages(path)][:2] == ["d0", "d1"]
    for damaged in (whole[: len(whole) // 2], b"no gzip"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not a whole gzip file"):
            list(read_passages(path))


def test_what_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    for name in ("a.txt", "b.jsonl"):
        (tmp_path / name).write_text('{"text": "some text"}')
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DataError, match=r"may not be read; see its permissions"):
        read_passages(tmp_path)
    monkeypatch.undo()

    def refuse(self, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    for path in (tmp_path, tmp_path / "b.jsonl"):
        with pytest.raises(DataError, match=r"(a\.txt|b\.jsonl): cannot be read \(Permission denied\)"):
            list(read_passages(path))


def test_half_a_surrogate_pair_is_named(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "fine"}\n{"text": "broken \\ud83d emoji"}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:2: 'text' holds half of a surrogate pair \(U\+D83D\)"):
        list(read_passages(path))


def test_page_that_is_nested_too_deeply_is_refused_by_name(tmp_path):
    """The parser would lose the text below; a page that loses text silently is worse than none."""
    (tmp_path / "deep.html").write_text("<div>" * 5000 + "text", encoding="utf-8")
    with pytest.raises(DataError, match=r"deep\.html: cannot be read as HTML \(Excessive depth"):
        list(read_passages(tmp_path))


def test_a_name_that_is_not_utf_8_is_refused_by_name(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    for place in (tmp_path, tmp_path / os.fsdecode(b"caf\xe9.txt")):
        with pytest.raises(DataError, match=r"caf\\xe9\.txt: the name is not UTF-8; rename the file") as caught:
            next(read_passages(place))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a.md", "a.txt"])
def test_lines_that_end_in_carriage_returns_alone_are_lines(tmp_path, name):
    """Of Markdown all was the heading, and nothing was left."""
    text = ("# Title\r" if name == "a.md" else "Title\r\r") + "body words\rmore\r"
    (tmp_path / name).write_bytes(text.encode())
    (passage,) = read_passages(tmp_path / name)
    (tmp_path / name).write_bytes(text.replace("\r", "\n").encode())
    assert [passage] == list(read_passages(tmp_path / name))
    assert (passage.title, "more" in passage.text) == ("Title", True)


def test_what_links_to_folders_lead_to_is_read(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far.txt").write_text("Far away.")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "near.txt").write_text("Near by.")
    (tmp_path / "docs" / "linked").symlink_to(tmp_path / "elsewhere")
    assert [(p.source, p.text) for p in read_passages(tmp_path / "docs")] == [
        ("linked", "Far away."),
        (None, "Near by."),
    ]
    (tmp_path / "docs" / "lost.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"lost\.txt: a link to nothing"):
        list(read_passages(tmp_path / "docs"))


def test_an_id_that_a_piece_of_another_row_has(tmp_path):
    rows = [{"id": "x", "text": "word " * 600}, {"id": "x#0", "text": "short"}]
    for order in (rows, rows[::-1]):
        path = tmp_path / "s.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in order))
        with pytest.raises(DataError, match=r"s\.jsonl: id 'x#0' is used in rows 1 and 2.*; ids must differ"):
            list(read_passages(path, "always"))
