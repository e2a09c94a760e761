"""Enriched texts: read where they are whole and done, found by their text, others left as they are."""

import json
from hashlib import sha256

import pytest

from gecko_core.enriched import EnrichedTexts, enriched_texts, read_enriched
from gecko_core.errors import ConfigError, DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def make_folder(tmp_path):
    def make(pairs, name="run", done=True):
        path = tmp_path / name / "enriched" / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        rows = [{"id": str(n), "text": text, "enriched": enriched} for n, (text, enriched) in enumerate(pairs)]
        pq.write_table(pa.Table.from_pylist(rows), path)
        part = {"rows": len(rows), "sha256": sha256(path.read_bytes()).hexdigest()}
        manifest = {"stages": {"enrich": {"done": done}}, "parts": {f"enriched/{path.name}": part}}
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
        return tmp_path / name

    return make


def test_texts_are_found_whatever_their_white_space(make_folder):
    known = read_enriched(make_folder([("the  RAM\nis full", "the random-access memory (RAM) is full"), ("b", "bb")]))
    assert enriched_texts(["the RAM is full", "the ram is full", "b", ""], known) == [
        "the random-access memory (RAM) is full",
        "the ram is full",
        "bb",
        "",
    ]
    assert enriched_texts(["b"], None) == ["b"]
    assert enriched_texts(["b"], {"b": "c"}) == ["c"]
    assert len(known) == 2


def test_of_several_folders_the_last_one_counts(make_folder):
    known = read_enriched(make_folder([("a", "1"), ("b", "2")], "x"), make_folder([("b", "3")], "y"))
    assert dict(known) == {"a": "1", "b": "3"}


def test_fingerprints_know_the_pairs_and_not_their_order():
    one = EnrichedTexts({"a": "1", "b": "2"}).fingerprint
    assert EnrichedTexts({"b": "2", "a": "1"}).fingerprint == one
    assert EnrichedTexts({"a": "2", "b": "1"}).fingerprint != one
    assert EnrichedTexts({"a": "1b", "": "2"}).fingerprint != one


def test_what_is_not_whole_is_one_line(make_folder, tmp_path):
    with pytest.raises(DataError, match="not a FRet folder"):
        read_enriched(tmp_path)
    with pytest.raises(DataError, match="not all texts are enriched yet"):
        read_enriched(make_folder([("a", "1")], "open", done=False))
    damaged = make_folder([("a", "1")], "damaged")
    pq.write_table(pa.table({"text": ["a"], "enriched": ["9"]}), damaged / "enriched" / "part-00000.parquet")
    with pytest.raises(DataError, match="the part is damaged or lost"):
        read_enriched(damaged)
    (damaged / "manifest.json").write_text(json.dumps({"stages": {}, "parts": {}}))
    with pytest.raises(DataError, match="holds no enriched texts"):
        read_enriched(damaged)


def test_a_folders_name_is_no_mapping():
    with pytest.raises(ConfigError, match="enriched must be a mapping of texts, not str; read a folder with read_enr"):
        enriched_texts(["a"], "runs/enriched")
