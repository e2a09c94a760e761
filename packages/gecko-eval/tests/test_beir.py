import gzip
import json

import pytest

from gecko_core.errors import DataError
from gecko_eval.beir import load_beir


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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("qrels/test.tsv", "q1\tnowhere\t1\n", r"test.tsv:38: the document 'nowhere' is not in corpus"),
        ("qrels/test.tsv", "nobody\td1\t1\n", r"test.tsv:38: the query 'nobody' is not in queries"),
        ("qrels/test.tsv", "q1\td1\tgood\n", r"test.tsv:38: the score 'good' is not a whole number"),
        ("qrels/test.tsv", "q1\td1\n", r"test.tsv:38: expected query id, document id and score, found 2"),
        ("corpus.jsonl", "{broken\n", r"corpus.jsonl:61: not JSON"),
        ("corpus.jsonl", "[1]\n", r"corpus.jsonl:61: expected a JSON object, found list"),
        ("corpus.jsonl", '{"_id": "x"}\n', r"corpus.jsonl:61: the key 'text' is missing"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n', r"the document id 'd1' occurs twice"),
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
    (beir_folder / "corpus.jsonl.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match="cannot be read"):
        load_beir(beir_folder)
