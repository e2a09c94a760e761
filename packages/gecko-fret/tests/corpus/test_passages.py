import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gecko_core.errors import DataError, GeckoError
from gecko_core.text_identity import words_key
from gecko_fret.corpus.passages import Corpus, Passage, load_corpus
from gecko_fret.corpus.splitting import count_words


def passages(n=5):
    return [Passage(f"p{i}", f"Title number {i} here", f"Some text of the passage number {i}.") for i in range(n)]


def test_corpus_is_a_sequence_with_lookup_by_id():
    corpus = Corpus(passages(), name="five")
    assert len(corpus) == 5
    assert corpus[1] == passages()[1]
    assert corpus[-1].id == "p4"
    assert [p.id for p in corpus[1:3]] == ["p1", "p2"]
    assert list(corpus) == passages()
    assert corpus.get("p3").title == "Title number 3 here"
    assert "p3" in corpus
    assert "absent" not in corpus
    with pytest.raises(IndexError):
        corpus[5]


def test_hash_depends_on_every_field_and_on_order_but_not_on_the_name():
    base = Corpus(passages(), name="a")
    assert base.hash == Corpus(passages(), name="b").hash
    assert base.hash != Corpus(passages()[::-1]).hash
    assert Corpus([Passage("a", "b", "c")]).hash != Corpus([Passage("ab", None, "c")]).hash
    assert Corpus([Passage("a", None, "c")]).hash != Corpus([Passage("a", "None", "c")]).hash


def test_subset_and_without_keep_corpus_order():
    corpus = Corpus(passages())
    assert corpus.subset(["p4", "p0"]).ids == ["p0", "p4"]
    assert corpus.without(["p4", "p0"]).ids == ["p1", "p2", "p3"]


def test_repeated_ids_name_both_passages():
    with pytest.raises(DataError, match=r"'p0' is used by passages 1 and 3"):
        Corpus([Passage("p0", None, "a"), Passage("p1", None, "b"), Passage("p0", None, "c")], name="c")


def test_pairs_use_unique_informative_titles_and_first_sentences():
    corpus = Corpus(
        [
            Passage("twice-1", "The same title", "Body one."),
            Passage("twice-2", "The same  title!", "Body two."),
            Passage("short", "Two words", "Body three."),
            Passage("good", "A title of its own", "Body four."),
            Passage("untitled", None, "What is a first sentence for. " + "It has a rest that goes on and on. " * 4),
            Passage("stub", None, "What is a first sentence for. No rest."),
        ]
    )
    pairs = corpus.pairs()
    assert [(query, p.id) for query, p in pairs] == [
        ("A title of its own", "good"),
        ("What is a first sentence for.", "untitled"),
    ]
    assert pairs[0][1].title is None
    assert "first sentence" not in pairs[1][1].text


def test_normalise_ignores_case_punctuation_and_spacing():
    assert words_key("A  Cat, sat!") == words_key("a cat\nsat")


def test_python_docs_gives_thousands_of_titled_passages_of_the_promised_length(python_docs_corpus):
    corpus = python_docs_corpus
    assert len(corpus) > 1500
    assert all(corpus.titles)
    lengths = [count_words(text) for text in corpus.texts]
    assert min(lengths) >= 40
    assert max(lengths) <= 250
    assert len({words_key(text) for text in corpus.texts}) == len(corpus)
    assert len(corpus.pairs()) > 500


def test_python_docs_imports_nothing_that_opens_windows():
    import subprocess
    import sys

    code = (
        "import sys; from gecko_fret.corpus.passages import python_docs; c = python_docs(limit=2000);"
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
    path.write_text('{"text": "Same text"}\n{"text": "other"}\n{"text": "same  text."}\n', encoding="utf-8")
    corpus = load_corpus(path)
    assert corpus.ids == ["0", "1"]
    assert [(d.id, d.reason) for d in corpus.dropped] == [("2", "duplicate")]
    assert len(load_corpus(path, deduplicate="none")) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "no such corpus"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.txt", b"  \n", "holds no passage"),
        ("latin.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}\n', r"not UTF-8 at byte 27 \(0xe9\)"),
        ("latin.csv", b"text\nabc\ncaf\xe9\n", "not UTF-8 at byte 12"),
        ("latin.txt", b"caf\xe9", "not UTF-8 at byte 3"),
        ("notext.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"row 2: no 'text' \(columns: body\)"),
        ("null.jsonl", b'{"text": null}\n', "row 1: no 'text'"),
        ("number.jsonl", b'{"text": 3}\n', "row 1: a 'text' that is not a string"),
        ("blank.jsonl", b'{"text": " "}\n', "row 1: an empty 'text'"),
        ("list.jsonl", b"[1]\n", "row 1: a list"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "row 2: not JSON"),
        ("twice.jsonl", b'{"id": 1, "text": "a"}\n{"text": "b"}\n{"id": "1", "text": "c"}\n', r"'1' is used in rows"),
        ("notext.csv", b"id,body\n1,b\n", "no 'text' column"),
        ("broken.csv", b'text\n"a" b\n', "not a CSV row"),
        ("broken.parquet", b"PAR1 nothing", "not a readable Parquet file"),
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
