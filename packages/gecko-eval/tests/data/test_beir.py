import gzip
import json

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_eval.data.beir import load_beir


def append(path, text):
    path.write_text(path.read_text() + text)


def test_reads_the_layout(beir_folder):
    data = load_beir(beir_folder, task="fact checking")
    assert (data.name, data.task) == ("toy", "fact checking")
    assert len(data.docs) == 60
    assert data.query_ids == [f"q{i}" for i in range(12)]  # q12 is judged in the train split only
    assert data.qrels["q1"] == {"d5": 2, "d6": 1, "d7": 0}
    assert data.titles[:2] == ["", "note 1"]
    assert load_beir(beir_folder, "train").query_ids == ["q12"]


def test_gzipped_files_read_the_same(beir_folder):
    plain = load_beir(beir_folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        path = beir_folder / name
        (beir_folder / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load_beir(beir_folder) == plain


def test_trec_columns_integer_ids_and_titleless_corpora(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": 1, "text": "x"}, {"_id": 2, "text": "y", "title": None}])
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": 7, "text": "x"}])
    (tmp_path / "qrels.tsv").write_text("7\t0\t1\t1\n")
    data = load_beir(tmp_path)
    assert data.titles is None
    assert data.qrels == {"7": {"1": 1}}


def test_unjudged_queries_are_an_error_or_dropped(beir_folder):
    append(beir_folder / "queries.jsonl", json.dumps({"_id": "lost", "text": "z"}) + "\n")
    with pytest.raises(DataError, match=r"1 queries have no judgement .* 'lost'.*--drop-unjudged"):
        load_beir(beir_folder)
    assert "lost" not in load_beir(beir_folder, unjudged="drop").query_ids
    with pytest.raises(ConfigError, match="unjudged must be 'error' or 'drop', not 'keep'"):
        load_beir(beir_folder, unjudged="keep")


def test_of_a_file_and_its_compressed_copy_none_is_chosen(beir_folder):
    for name in ("corpus.jsonl", "queries.jsonl"):
        (beir_folder / f"{name}.gz").touch()
        with pytest.raises(DataError, match=f"holds {name} and {name}.gz, of which one alone would be read"):
            load_beir(beir_folder)
        (beir_folder / f"{name}.gz").unlink()


def test_titles_under_another_name_are_not_passed_over(beir_folder):
    corpus = beir_folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + json.dumps({"_id": "new", "Title": "a", "text": "b"}) + "\n")
    with pytest.raises(DataError, match=r"corpus\.jsonl:61: the column 'Title' is not read; call it 'title'"):
        load_beir(beir_folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("qrels/test.tsv", "q1\tnowhere\t1\n", r"test.tsv:38: the document 'nowhere' is not in corpus"),
        ("qrels/test.tsv", "nobody\td1\t1\n", r"test.tsv:38: the query 'nobody' is not in queries"),
        ("qrels/test.tsv", "q1\td1\tgood\n", r"test.tsv:38: the score 'good' is not a whole number"),
        ("qrels/test.tsv", "q1\td1\n", r"test.tsv:38: expected query id, document id and score, found 2"),
        ("corpus.jsonl", "{broken\n", r"corpus.jsonl:61: not JSON"),
        ("corpus.jsonl", "[1]\n", r"corpus.jsonl:61: a list; expected a JSON object"),
        ("corpus.jsonl", '{"_id": "x"}\n', r"corpus.jsonl:61: 'text' is missing \(found: _id\)"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n', r"corpus.jsonl:61: the document id 'd1' occurs twice"),
        ("corpus.jsonl", '{"_id": true, "text": "x"}\n', r"corpus.jsonl:61: _id True is a bool; use text or whole"),
        ("corpus.jsonl", '{"_id": "", "text": "x"}\n', r"corpus.jsonl:61: '_id' is empty"),
        ("corpus.jsonl", '{"_id": "x", "text": "\\ud800"}\n', r"corpus.jsonl:61: 'text' holds half of a surrogate"),
        ("corpus.jsonl", "[" * 100_000 + "\n", r"corpus.jsonl:61: not JSON"),
        ("qrels/test.tsv", "q1\td5\t1\n", r"test.tsv:38: the document 'd5' was judged .* before, as 2 and not 1"),
        ("qrels/test.tsv", "q1\td9\t99999999999\n", r"test.tsv:38: the score 99999999999 is too large"),
        ("queries.jsonl", '{"_id": "q1", "text": "x"}\n', r"queries.jsonl:14: the query id 'q1' occurs twice"),
    ],
)
def test_broken_lines_are_named(beir_folder, file, text, message):
    append(beir_folder / file, text)
    with pytest.raises(DataError, match=message) as e:
        load_beir(beir_folder)
    assert "\n" not in str(e.value)


def test_broken_files_are_named(beir_folder, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        load_beir(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no qrels/dev.tsv \(found test.tsv, train.tsv\)"):
        load_beir(beir_folder, "dev")
    (beir_folder / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "caf\xe9"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        load_beir(beir_folder)
    (beir_folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=r"neither corpus\.jsonl nor corpus\.jsonl\.gz"):
        load_beir(beir_folder)
    whole = gzip.compress(b'{"_id": "d1", "text": "' + bytes(range(65, 91)) * 200 + b'"}')
    for broken in (b"not gzip", whole[:-20], whole[:30] + bytes(20) + whole[50:]):
        (beir_folder / "corpus.jsonl.gz").write_bytes(broken)
        with pytest.raises(DataError, match="not a whole gzip file"):
            load_beir(beir_folder)
    with pytest.raises(DataError, match="not a folder"):
        load_beir(beir_folder / "queries.jsonl")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("corpus.jsonl", "\n", "no documents in it"),
        ("corpus.jsonl", "", "corpus.jsonl: the file is empty"),
        ("queries.jsonl", "\n", "no queries in it"),
        ("qrels/test.tsv", "q1\td5\t0\n", "no judgement is above 0"),
        ("qrels/test.tsv", "", "no judgements in it"),
    ],
)
def test_files_that_hold_nothing_are_named(beir_folder, file, text, message):
    (beir_folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_beir(beir_folder)


def test_byte_order_marks_are_passed_over(beir_folder):
    plain = load_beir(beir_folder)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        (beir_folder / name).write_bytes(b"\xef\xbb\xbf" + (beir_folder / name).read_bytes())
    assert load_beir(beir_folder) == plain


def test_a_name_below_the_data_folder_will_do(beir_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("GECKO_DATA_DIR", str(beir_folder.parent))
    monkeypatch.chdir(beir_folder)
    assert load_beir("toy").name == "toy"
    assert load_beir(".").name == "toy"
