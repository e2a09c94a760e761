"""The fields of documents as a FRet folder has them."""

import json
from hashlib import sha256

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_core.fields import document_of, read_fields

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CORPUS = [
    {"id": "notes.md#0", "title": "Tokay", "text": "It barks."},
    {"id": "notes.md#1", "title": "Tokay", "text": "It climbs."},
    {"id": "alone", "title": None, "text": "It sleeps."},
]
GENERATED = [
    {"id": "0", "seed_id": "notes.md#0", "query": "what barks", "source": "llm"},
    {"id": "1", "seed_id": "notes.md#1", "query": "what climbs", "source": "llm"},
    {"id": "2", "seed_id": "alone", "query": "what sleeps", "source": "llm"},
    {"id": "3", "seed_id": "notes.md#0", "query": "Tokay", "source": "titles"},
    {"id": "4", "seed_id": None, "query": "my gecko is loud", "source": "log"},
]
FRET = [
    {"id": "0", "query": "what barks", "seed_id": "notes.md#0", "positive_id": "notes.md#0", "source": "llm"},
    {"id": "1", "query": "what climbs", "seed_id": "notes.md#1", "positive_id": "alone", "source": "llm"},
    {"id": "2", "query": "what sleeps", "seed_id": "alone", "positive_id": None, "source": "llm"},
    {"id": "4", "query": "my gecko is loud", "seed_id": None, "positive_id": "notes.md#0", "source": "log"},
]


@pytest.fixture
def folder(tmp_path):
    parts = {}
    for step, rows in (("corpus", CORPUS), ("generated", GENERATED), ("fret", FRET)):
        path = tmp_path / "run" / step / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), path)
        parts[f"{step}/{path.name}"] = {"rows": len(rows), "sha256": sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({"complete": True, "parts": parts}))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("queries", "expected"),
    [
        ("all", {"notes.md": ["what barks", "what climbs"], "alone": ["what sleeps"]}),
        ("answered", {"notes.md": ["what barks", "what climbs"], "alone": []}),
        ("relabelled", {"notes.md": ["what barks", "my gecko is loud"], "alone": ["what climbs"]}),
        ("none", {"notes.md": [], "alone": []}),
    ],
)
def test_queries_that_count_and_their_documents(folder, queries, expected):
    texts = read_fields(folder, queries)
    assert {name: document.queries for name, document in texts.items()} == expected
    assert texts["notes.md"].chunk_ids == ["notes.md#0", "notes.md#1"]
    assert texts["notes.md"].distinct_titles == ["Tokay"]
    assert texts["alone"].distinct_titles == []


def test_passages_may_be_documents_of_their_own(folder):
    texts = read_fields(folder, "all", whole=True)
    assert {name: document.queries for name, document in texts.items()} == {
        "notes.md#0": ["what barks"],
        "notes.md#1": ["what climbs"],
        "alone": ["what sleeps"],
    }
    assert texts.fingerprint != read_fields(folder, "all").fingerprint
    assert texts.counts["documents_with_queries"] == 3


def test_ids_of_documents():
    assert [document_of(name) for name in ("a#0", "a#b", "#1", "a#1#12", "a")] == ["a", "a#b", "#1", "a#1", "a"]


def test_folders_without_a_list_or_a_column_of_sources_are_read(folder):
    (folder / "manifest.json").write_text(json.dumps({"complete": True}))
    rows = [{key: row[key] for key in ("id", "seed_id", "query")} for row in GENERATED[:3]]
    pq.write_table(pa.Table.from_pylist(rows), folder / "generated" / "part-00000.parquet")
    assert read_fields(folder, "all")["alone"].queries == ["what sleeps"]


def test_what_cannot_be_read_is_one_line(folder, tmp_path):
    with pytest.raises(ConfigError, match="use one of answered, all, relabelled, none"):
        read_fields(folder, "some")
    with pytest.raises(DataError, match="not a FRet folder"):
        read_fields(tmp_path)
    pq.write_table(pa.Table.from_pylist(CORPUS[:1]), folder / "corpus" / "part-00000.parquet")
    with pytest.raises(
        DataError, match=r"part-00000.parquet: the part is damaged or lost .*finish or repeat the build"
    ):
        read_fields(folder)
    (folder / "manifest.json").write_text(json.dumps({"complete": False}))
    with pytest.raises(DataError, match="the build is not finished"):
        read_fields(folder)
