import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import DataError, GeckoError
from gecko_core.text_identity import text_key
from gecko_fret.corpus.load import load_corpus
from gecko_fret.corpus.passages import Passage
from gecko_fret.corpus.splitting import count_words
from gecko_fret.text_rules import RULES


def test_python_docs_gives_thousands_of_titled_passages_of_the_promised_length(python_docs_corpus):
    corpus = python_docs_corpus
    assert len(corpus) > 1500
    assert all(corpus.titles)
    lengths = [count_words(text) for text in corpus.texts]
    assert min(lengths) >= 40
    assert max(lengths) <= 250
    assert len({text_key(text) for text in corpus.texts}) == len(corpus)
    assert len(corpus.pairs()) > 500


def test_python_docs_imports_nothing_that_opens_windows():
    import subprocess
    import sys

    code = (
        "import sys; from gecko_fret.corpus.load import python_docs; c = python_docs(limit=2000);"
        "print(len(c), [m for m in ('antigravity', 'this', 'tkinter', 'turtle', 'idlelib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split(" ", 1)[1].strip() == "[]"


def test_jsonl_with_optional_columns(tmp_path):
    path = tmp_path / "c.jsonl"
    rows = [{"text": "one", "id": "x", "title": "T"}, {"text": "two"}, {"text": "three", "id": 7, "source": "s"}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    corpus = load_corpus(path)
    assert list(corpus) == [Passage("x", "T", "one"), Passage("1", None, "two"), Passage("7", None, "three", "s")]
    assert corpus.name == "c.jsonl"


def test_csv_and_parquet_give_the_same_corpus(tmp_path):
    (tmp_path / "c.csv").write_text('id,title,text\na,T,"one, two"\nb,,three\n', encoding="utf-8")
    pq.write_table(
        pa.table({"id": ["a", "b"], "title": ["T", None], "text": ["one, two", "three"]}), tmp_path / "c.parquet"
    )
    assert load_corpus(tmp_path / "c.csv").hash == load_corpus(tmp_path / "c.parquet").hash


def test_rows_without_an_id_are_numbered_from_zero_blank_lines_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "id": ""}\n', encoding="utf-8")
    (tmp_path / "b.tsv").write_text("text\tid\none\t\n\ntwo\t\n", encoding="utf-8")
    pq.write_table(pa.table({"id": [7.0, float("nan")], "text": ["one", "two"]}).slice(1), tmp_path / "c.parquet")
    assert load_corpus(tmp_path / "a.jsonl").ids == ["0", "1"]
    assert load_corpus(tmp_path / "b.tsv").ids == ["0", "1"]
    assert load_corpus(tmp_path / "c.parquet").ids == ["0"]


def test_missing_titles_of_pandas_are_no_titles(tmp_path):
    pq.write_table(pa.table({"title": [float("nan")], "text": ["one"]}), tmp_path / "c.parquet")
    assert load_corpus(tmp_path / "c.parquet").titles == [None]


def test_limit_ends_the_reading(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nbroken', encoding="utf-8")
    assert load_corpus(path, limit=2).texts == ["a", "b"]


def test_folder_of_text_markdown_and_html(tmp_path):
    body = "This sentence is here to fill the passage with some words. " * 8
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text(f"A title line\n\n{body}", encoding="utf-8")
    (tmp_path / "b.md").write_text(f"# Top\n\n{body}one\n\n## Below\n\n{body}two\n", encoding="utf-8")
    (tmp_path / "sub" / "c.html").write_text(
        f"<html><head><title>x</title><script>var a;</script></head><body><h1>Page &amp; more</h1><p>{body}three</p>",
        encoding="utf-8",
    )
    corpus = load_corpus(tmp_path)
    assert corpus.ids == ["a.txt#0", "b.md#0", "b.md#1", "sub/c.html#0"]
    assert corpus.titles == ["A title line", "Top", "Below", "Page & more"]
    assert "var a" not in corpus[3].text
    assert corpus[3].source == "sub"


def test_markup_is_read_by_the_rules_of_the_folder(tmp_path):
    (tmp_path / "a.md").write_text("# C#\n\nsome text", encoding="utf-8")
    (tmp_path / "b.html").write_text("<td>Paris</td><td>7</td><pre># x\ny</pre>", encoding="utf-8")
    old, new = (load_corpus(tmp_path, rules=RULES[version]) for version in (2, 3))
    assert (old.titles, old.texts) == (["C", None], ["some text", "Paris7"])
    assert (new.titles, new.texts) == (["C#", None], ["some text", "Paris 7\n\n# x\ny"])


def test_long_rows_are_cut_only_on_request(tmp_path):
    path = tmp_path / "c.jsonl"
    text = " ".join(f"This is sentence {i} with eight words here." for i in range(100))
    path.write_text(json.dumps({"id": "a", "text": text}), encoding="utf-8")
    assert load_corpus(path).ids == ["a"]
    cut = load_corpus(path, split="always")
    assert cut.ids[:2] == ["a#0", "a#1"]
    assert all(40 <= count_words(t) <= 250 for t in cut.texts)


def test_repeats_are_dropped_and_listed(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(
        '{"text": "Same text"}\n{"text": "other"}\n{"text": "same  TEXT"}\n{"text": "same text."}\n', encoding="utf-8"
    )
    corpus = load_corpus(path)
    assert corpus.ids == ["0", "1", "3"]
    assert [(d.id, d.reason) for d in corpus.dropped] == [("2", "duplicate")]
    assert len(load_corpus(path, deduplicate="none")) == 4
    assert load_corpus(path, rules=RULES[1]).ids == ["0", "1"]


@pytest.mark.parametrize(
    "text", ["हिन्दी दिन|हिन्दी दान", "เสือ|เสื้อ", "x >= 0|x <= 0", "in C|in C++|in C#", "5 °C|-5 °C", "👍|👎"]
)
def test_texts_that_differ_in_a_sign_are_no_repeats(tmp_path, text):
    path, texts = tmp_path / "c.jsonl", text.split("|")
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    assert load_corpus(path).texts == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "no such corpus"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.txt", b"  \n", "holds no passage"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', r"not UTF-8 at byte 27 \(0xe9\)"),
        ("latin.csv", b"text\nabc\ncaf\xe9\n", "not UTF-8 at byte 12"),
        ("latin.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("notext.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"notext.jsonl:2: 'text' is missing \(found: body\)"),
        ("null.jsonl", b'{"text": null}\n', "null.jsonl:1: 'text' is empty"),
        ("number.jsonl", b'{"text": 3}\n', "number.jsonl:1: 'text' is int, not text"),
        ("blank.jsonl", b'{"text": " "}\n', "blank.jsonl:1: 'text' is empty"),
        ("list.jsonl", b"[1]\n", "list.jsonl:1: a list"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "broken.jsonl:2: not JSON"),
        ("twice.jsonl", b'{"id": 1, "text": "a"}\n{"text": "b"}\n{"id": "1", "text": "c"}\n', r"'1' is used in rows"),
        (
            "half.jsonl",
            b'{"text": "a"}\n{"id": "0", "text": "b"}\n',
            r"'0' is used in rows 1 and 2 \(a row without one gets",
        ),
        ("notext.csv", b"id,body\n1,b\n", "no column 'text'"),
        ("broken.csv", b'text\n"a" b\n', "broken.csv:2: not a row of a table"),
        ("broken.parquet", b"PAR1 nothing", "not a readable Parquet file"),
        ("float.jsonl", b'{"id": 1.5, "text": "a"}\n', "float.jsonl:1: id 1.5 is a float; use text or whole numbers"),
        ("flag.jsonl", b'{"id": true, "text": "a"}\n', "id True is a bool"),
        ("title.jsonl", b'{"title": ["a"], "text": "a"}\n', "title.jsonl:1: 'title' is list; it must be text"),
        ("source.jsonl", b'{"source": {"a": 1}, "text": "a"}\n', "'source' is dict; it must be text"),
        ("file.docx", b"PK", "cannot read '.docx'"),
    ],
)
def test_bad_input_is_one_line_naming_file_and_place(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeckoError, match=message) as caught:
        load_corpus(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no \.txt"):
        load_corpus(tmp_path)


def test_unknown_deduplication_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(GeckoError, match="use none, exact or near"):
        load_corpus(tmp_path, deduplicate="fuzzy")


def test_a_corpus_of_which_everything_is_left_out_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("gecko_fret.corpus.cleaning.looks_like", lambda text, language: False)
    monkeypatch.setattr("gecko_fret.corpus.load.check_language", lambda key, language: None)
    path = tmp_path / "c.jsonl"
    path.write_text('{"id": "x", "text": "one"}\n{"text": "two"}\n')
    with pytest.raises(DataError, match=r"no passage: all 2 were left out \(language 2; x: .*'de'.*\); see corpus\.\*"):
        load_corpus(path, language="de")
