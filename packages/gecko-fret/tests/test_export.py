import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_fret import export, load_fret
from gecko_fret.build.pipeline import build_fret
from gecko_fret.config import parse_config
from gecko_fret.dataset import FretData
from gecko_fret.export import LAYOUTS, export_fret
from gecko_fret.models import Models

NAMES = {"sentence-transformers": "t.parquet", "flagembedding": "f.jsonl", "tevatron": "tevatron"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_corpus, make_models):
    out = tmp_path_factory.mktemp("export") / "fret"
    config = parse_config(
        {
            "llm": {"model": "fake"},
            "generate": {"seeds": 15, "max_copied": 1.0},
            "retrieve": {"candidates": 6},
            "mine": {"fuse": "rrf", "negatives": 2, "max_similarity": None},
        }
    )
    build_fret(config, out, corpus=small_corpus, models=make_models())
    return out


def test_sentence_transformers_columns_in_their_order(folder, tmp_path):
    count = export_fret(folder, tmp_path / "t.parquet", "sentence-transformers")
    table = pq.read_table(tmp_path / "t.parquet")
    rows = load_fret(folder)
    assert table.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert count == len(table) == len(rows)
    assert table["anchor"].to_pylist() == [row.query for row in rows]
    assert table["positive"][0].as_py() == rows[0].positive.full_text


def test_gecko_prompts_on_request(folder, tmp_path):
    export_fret(folder, tmp_path / "t.parquet", "sentence-transformers", prompts=True)
    table = pq.read_table(tmp_path / "t.parquet")
    row = load_fret(folder)[0]
    assert table["anchor"][0].as_py() == f"task: {row.task} | query: {row.query}"
    assert table["positive"][0].as_py() == f"title: {row.positive.title} | text: {row.positive.text}"


def test_flag_embedding_rows(folder, tmp_path):
    count = export_fret(folder, tmp_path / "f.jsonl", "flagembedding")
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert count == len(lines)
    row = load_fret(folder)[0]
    assert lines[0]["query"] == row.query
    assert lines[0]["neg"] == [n.full_text for n in row.negatives]
    assert lines[0]["pos_scores"] == [row.candidates[0].fused]
    assert len(lines[0]["neg_scores"]) == 2


def test_tevatron_ids_are_in_its_corpus(folder, tmp_path):
    export_fret(folder, tmp_path / "tevatron", "tevatron")
    documents, rows = (
        [json.loads(line) for line in (tmp_path / "tevatron" / name).read_text().splitlines()]
        for name in ("corpus.jsonl", "train.jsonl")
    )
    known = {document["docid"] for document in documents}
    assert len(rows) == len(load_fret(folder))
    assert all({*row["positive_document_ids"], *row["negative_document_ids"]} <= known for row in rows)


def test_tevatron_shows_no_title_beside_itself(folder, tmp_path, monkeypatch):
    """As the other layouts: a title would stand above its answer word for word."""
    data = load_fret(folder)
    titled = [replace(passage, title=f"Title {passage.id}") for passage in data.corpus]
    row = replace(data._rows[0], source="titles")
    rows = [row, *data._rows[1:]]
    monkeypatch.setattr("gecko_fret.export.load_fret", lambda path: FretData(rows, type(data.corpus)(titled), {}))
    export_fret(folder, tmp_path / "t", "tevatron")
    documents, lines = (
        [json.loads(line) for line in (tmp_path / "t" / name).read_text().splitlines()]
        for name in ("corpus.jsonl", "train.jsonl")
    )
    texts = {document["docid"]: document["text"] for document in documents}
    by_id = {passage.id: passage for passage in titled}
    assert len(texts) == len(documents) == len(titled) + 1 + len(row.negative_ids)
    assert lines[0]["positive_document_ids"] == [f"{row.positive_id}#untitled"]
    assert texts[f"{row.positive_id}#untitled"] == by_id[row.positive_id].text
    assert texts[row.positive_id] == by_id[row.positive_id].full_text
    assert lines[1]["positive_document_ids"] == [rows[1].positive_id]


def test_unknown_layout_and_missing_folder_are_one_line(folder, tmp_path):
    with pytest.raises(ConfigError, match="use one of sentence-transformers, flagembedding, tevatron"):
        export_fret(folder, tmp_path / "x", "csv")
    with pytest.raises(DataError, match="not a FRet folder"):
        export_fret(tmp_path / "no", tmp_path / "x", "tevatron")
    with pytest.raises(DataError, match=r"manifest.json: not a FRet folder"):
        export_fret(folder / "manifest.json", tmp_path / "x", "tevatron")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_without_any_answer_are_no_export(folder, tmp_path, monkeypatch, layout):
    data = load_fret(folder)
    rows = [replace(row, positive_id=None, negative_ids=[]) for row in data._rows]
    unanswered = FretData(rows, data.corpus, data.manifest)
    monkeypatch.setattr("gecko_fret.export.load_fret", lambda path: unanswered)
    with pytest.raises(DataError, match=rf"fret: the judges found an answer for none of its {len(rows)} rows"):
        export_fret(folder, tmp_path / NAMES[layout], layout)
    assert not list(tmp_path.iterdir())


def test_rows_that_are_left_out_are_told(folder, tmp_path, monkeypatch):
    data = load_fret(folder)
    first, second, *others = data._rows
    rows = [replace(first, positive_id=None, negative_ids=[]), replace(second, negative_ids=second.negative_ids[:1])]
    monkeypatch.setattr("gecko_fret.export.load_fret", lambda path: FretData(rows + others, data.corpus, {}))
    said = []
    assert export_fret(folder, tmp_path / "t.parquet", "sentence-transformers", say=said.append) == len(others)
    assert said == [
        f"1 of {len(data)} rows left out: the judges found no answer for their queries",
        f"1 of {len(data)} rows left out: they have fewer negatives than the others",
    ]
    assert export_fret(folder, tmp_path / "f.jsonl", "flagembedding", say=said.append) == len(others) + 1
    assert len(said) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_stays_unless_it_may_be_replaced(folder, tmp_path, layout):
    to = tmp_path / NAMES[layout]
    export_fret(folder, to, layout)
    with pytest.raises(ConfigError, match="exists; choose another name or give --overwrite"):
        export_fret(folder, to, layout)
    assert export_fret(folder, to, layout, overwrite=True) == len(load_fret(folder))
    with pytest.raises(ConfigError, match="is inside the FRet folder"):
        export_fret(folder, folder / NAMES[layout], layout)
    link = tmp_path / f"link{to.suffix}"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link, and nothing is written through links"):
        export_fret(folder, link, layout)


@pytest.mark.parametrize(("layout", "ending"), [("sentence-transformers", ".parquet"), ("flagembedding", ".jsonl")])
def test_a_name_of_another_kind_is_refused(folder, tmp_path, layout, ending):
    with pytest.raises(ConfigError, match=rf"a\.csv: this layout is written as NAME\{ending}"):
        export_fret(folder, tmp_path / "a.csv", layout)
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_training_run_says_where_its_data_is(folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "fret").symlink_to(folder)
    with pytest.raises(DataError, match=r"run: not a FRet folder .* the one of this run is .*run/fret"):
        export_fret(tmp_path / "run", tmp_path / "t.parquet", "sentence-transformers")


def test_models_are_given_back(small_corpus, fake_llm, fake_embedder, tmp_path):
    llm = fake_llm()
    models = Models(llms={"fake": llm}, embedder=fake_embedder())
    settings = {"llm": {"model": "fake"}, "generate": {"seeds": 3, "max_copied": 1.0}, "mine": {"fuse": "rrf"}}
    build_fret(parse_config(settings), tmp_path / "fret", corpus=small_corpus, models=models)
    assert llm.closed == 0  # a model that the caller made is the caller's to close


def test_a_layout_is_one_function_and_one_line(folder, tmp_path, monkeypatch):
    def queries_only(data, to, render):
        to.write_text("\n".join(render.query(row) for row in data))
        return len(data)

    monkeypatch.setitem(LAYOUTS, "queries", queries_only)
    assert export_fret(folder, tmp_path / "q.txt", "queries") == len(load_fret(folder))
    assert (tmp_path / "q.txt").read_text().splitlines() == [row.query for row in load_fret(folder)]


def test_two_files_of_one_export_stay_together(folder, tmp_path, monkeypatch):
    out = tmp_path / "tevatron"
    export_fret(folder, out, "tevatron")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write = export._write_jsonl

    def interrupted(path, rows):
        if path.name == "train.jsonl":
            raise KeyboardInterrupt
        return write(path, rows)

    monkeypatch.setattr(export, "_write_jsonl", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_fret(folder, out, "tevatron", prompts=True, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        export_fret(folder, tmp_path / "new", "tevatron")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not (tmp_path / "new").exists()
    (out / ".train.jsonl.7-0123ab.tmp").touch()  # as a killed process of an earlier version left it
    export_fret(folder, out, "tevatron", prompts=True, overwrite=True)
    after = {path.name: path.read_bytes() for path in out.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)


def test_a_folder_with_other_files_is_not_replaced(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dev.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds other files than an export's \(dev\.jsonl"):
        export_fret(folder, tmp_path / "mine", "tevatron", overwrite=True)
    assert (tmp_path / "mine" / "dev.jsonl").read_text() == "mine"
