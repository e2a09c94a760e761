import gzip
import json
import os
from pathlib import Path

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set


def write_lines(path, records):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def load(**config):
    return list(load_set(SetConfig(**config), SourceContext()))


def test_title_body_rows_come_from_the_runs_corpus():
    body = "words " * 50
    corpus = Corpus([Passage(str(n), f"a telling title {n}", f"{body} {n}") for n in range(3)])
    rows = list(load_set(SetConfig(source="title-body"), SourceContext(corpus)))
    assert [row.query for row in rows] == [f"a telling title {n}" for n in range(3)]
    assert rows[0].positive.title is None
    assert rows[0].task == "search result"
    assert rows[0].negatives == ()


def test_files_of_every_kind_give_the_same_rows(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"query": f"q{n}", "positive": f"p{n}", "negative": f"n{n}"} for n in range(4)]
    write_lines(tmp_path / "a.jsonl", records)
    write_lines(tmp_path / "b.jsonl.gz", records)
    (tmp_path / "c.csv").write_text("query,positive,negative\n" + "".join(f"q{n},p{n},n{n}\n" for n in range(4)))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "d.parquet")
    (tmp_path / "folder").mkdir()
    write_lines(tmp_path / "folder" / "train.jsonl", records)
    wanted = [TrainingRow("mine", f"q{n}", Document(f"p{n}"), (Document(f"n{n}"),)) for n in range(4)]
    for name in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet", "folder"):
        assert load(source="triplets", path=str(tmp_path / name), task="mine") == wanted
    monkeypatch.setenv("GECKO_DATA_DIR", str(tmp_path))
    assert load(source="triplets", path="folder", task="mine", limit=2) == wanted[:2]
    RowSet.write(tmp_path / "e.arrow", wanted)
    assert load(source="arrow", path=str(tmp_path / "e.arrow")) == wanted


def test_records_can_be_picked_by_column(tmp_path):
    records = [{"query": f"q{n}", "positive": f"p{n}", "lang": "en" if n % 2 else "de"} for n in range(4)]
    write_lines(tmp_path / "a.jsonl", records)
    rows = load(source="pairs", path=str(tmp_path / "a.jsonl"), options={"where": {"lang": "en"}})
    assert [row.query for row in rows] == ["q1", "q3"]


def test_a_beir_folder_gives_its_judged_pairs(tmp_path):
    write_lines(
        tmp_path / "corpus.jsonl", [{"_id": "d1", "title": "T", "text": "x"}, {"_id": "d2", "title": "", "text": "y"}]
    )
    write_lines(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "ask"}])
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\n")
    (row,) = load(source="beir", path=str(tmp_path), task="fact checking")
    assert (row.task, row.query, row.positive) == ("fact checking", "ask", Document("x", "T"))
    with pytest.raises(DataError, match=r"no qrels/dev\.tsv \(found train\.tsv\)"):
        load(source="beir", path=str(tmp_path), options={"split": "dev"})


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (
            {"source": "tripletts", "path": "x"},
            ConfigError,
            "unknown source 'tripletts'; the sources are title-body, fret",
        ),
        ({"source": "triplets"}, ConfigError, "source 'triplets' needs a `path`"),
        ({"source": "title-body"}, ConfigError, "without a corpus; give it a `path`"),
        ({"source": "fret"}, ConfigError, "source 'fret' without a path"),
        ({"source": "triplets", "path": "nowhere.jsonl"}, DataError, r"nowhere\.jsonl: no such file or folder"),
        ({"source": "triplets", "path": "latin.jsonl"}, DataError, r"latin\.jsonl:1: not UTF-8"),
        ({"source": "triplets", "path": "broken.jsonl"}, DataError, r"broken\.jsonl:2: not JSON"),
        ({"source": "triplets", "path": "empty.jsonl"}, DataError, r"empty\.jsonl: the file is empty"),
        ({"source": "triplets", "path": "what.docx"}, DataError, r"what\.docx: unknown kind of file"),
        ({"source": "triplets", "path": "."}, DataError, "no file train.jsonl"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, monkeypatch, config, error, message):
    monkeypatch.chdir(tmp_path)
    Path("latin.jsonl").write_bytes('{"query": "é", "positive": "p"}\n'.encode("latin-1"))
    Path("broken.jsonl").write_text('{"query": "q", "positive": "p"}\n{"query": \n')
    Path("empty.jsonl").write_text("")
    Path("what.docx").write_text("x")
    with pytest.raises(error, match=message) as caught:
        load(**config)
    assert "\n" not in str(caught.value)


needs_data = pytest.mark.skipif("GECKO_DATA_DIR" not in os.environ, reason="GECKO_DATA_DIR is not set")


@needs_data
@pytest.mark.parametrize(
    ("source", "path", "options"),
    [
        ("hotpotqa", "hotpotqa_sample", {}), ("medmcqa", "medmcqa", {}), ("snli", "snli_sample", {}),
        ("mnli", "xnli", {"where": {"lang": "en"}}), ("fever", "climate_fever", {}), ("nq", "nq_open", {}),
        ("qa", "mlqa", {"where": {"context_lang": "en", "question_lang": "en"}}), ("qa", "boolq", {}),
        ("qa", "bioasq", {}), ("qa", "pubmedqa", {}), ("qa", "wikiqa", {}), ("qa", "techqa_sample", {}),
        ("qa", "expertqa_sample", {}), ("classification", "banking77", {}), ("classification", "emotion", {}),
        ("beir", "scifact", {}), ("beir", "fiqa_gold", {}),
    ],
)  # fmt: skip
def test_the_real_samples_become_rows(source, path, options):
    rows = load_set(SetConfig(source=source, path=path, options=options), SourceContext())
    assert len(rows) >= 50
    for row in rows.rows(range(50)):
        assert row.task
        assert row.query.strip()
        assert row.positive.text.strip()
        assert row.positive.text not in [negative.text for negative in row.negatives]


def test_a_written_set_stays_on_disk_and_can_be_cut(tmp_path, row_set):
    RowSet.write(tmp_path / "kept.arrow", list(row_set("a", 30)))
    one = load_set(SetConfig(source="arrow", path=str(tmp_path / "kept.arrow"), limit=12), SourceContext())
    assert (one.name, len(one)) == ("kept", 12)
    assert [row.query for row in one] == [row.query for row in row_set("a", 30)][:12]


def test_columns_are_renamed(tmp_path):
    (tmp_path / "s2.jsonl").write_text('{"title": "a title", "abstract": "an abstract", "x": 1}\n')
    options = {"columns": {"query": "title", "positive": "abstract"}}
    [row] = load_set(SetConfig(source="pairs", path=str(tmp_path / "s2.jsonl"), options=options), SourceContext())
    assert (row.query, row.positive.text, row.positive.title) == ("a title", "an abstract", None)
