"""Judged sets of the hub, laid out as BEIR folders: through the real ``datasets``, from a repository on disk."""

import json

import pytest

pytest.importorskip("datasets")

from gecko_core.errors import ConfigError, DataError
from gecko_eval import load_beir
from gecko_eval.data import fetch_beir

CARD = """---
configs:
- config_name: corpus
  data_files: [{split: corpus, path: corpus.jsonl}]
- config_name: queries
  data_files: [{split: queries, path: queries.jsonl}]
- config_name: default
  data_files: [{split: test, path: test.jsonl}, {split: train, path: train.jsonl}]
---
"""
CORPUS = [{"_id": f"d{n}", "title": "" if n else "Zero", "text": f"text {n}"} for n in range(20)]
QUERIES = [{"_id": f"q{n}", "text": f"ask {n}"} for n in range(5)]
TEST = [{"query-id": f"q{n}", "corpus-id": f"d{n}", "score": 1} for n in range(2)]
TRAIN = [{"query-id": "q3", "corpus-id": "d7", "score": 2}]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository as mteb's are; ``hub(**tables)`` replaces some of them."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def written(**tables):
        folder = tmp_path / "hub"
        folder.mkdir()
        (folder / "README.md").write_text(CARD)
        every = {"corpus": CORPUS, "queries": QUERIES, "test": TEST, "train": TRAIN, **tables}
        for name, rows in every.items():
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder)

    return written


def test_a_set_becomes_a_folder_that_is_read_as_any_other(hub, tmp_path):
    counts = fetch_beir(hub(), tmp_path / "set", splits=["test", "train"])
    assert counts == {"test": 2, "train": 1, "corpus": 20, "queries": 3}
    data = load_beir(tmp_path / "set")
    assert data.queries == ["ask 0", "ask 1"]
    assert data.qrels == {"q0": {"d0": 1}, "q1": {"d1": 1}}
    assert (data.docs[0], data.titles[0]) == ("text 0", "Zero")
    assert len(data.docs) == 20
    assert load_beir(tmp_path / "set", "train").qrels == {"q3": {"d7": 2}}


def test_long_reading_is_shown(hub, tmp_path, capsys):
    fetch_beir(hub(), tmp_path / "set", progress=True)
    shown = capsys.readouterr().err
    assert "look" in shown
    assert "20 documents" in shown.partition("write")[2]


def test_a_sample_keeps_what_is_judged(hub, tmp_path):
    name = hub()
    assert fetch_beir(name, tmp_path / "set", splits=["test", "train"], documents=6)["corpus"] == 6
    found = load_beir(tmp_path / "set").doc_ids
    assert {"d0", "d1", "d7"} < set(found)
    assert found == sorted(found, key=lambda i: int(i[1:]))
    fetch_beir(name, tmp_path / "again", splits=["test", "train"], documents=6)
    assert load_beir(tmp_path / "again").doc_ids == found
    assert fetch_beir(name, tmp_path / "gold", documents=1)["corpus"] == 2


def test_what_does_not_fit_is_refused_and_leaves_nothing(hub, tmp_path):
    name = hub(test=[*TEST, {"query-id": "q2", "corpus-id": "gone", "score": 1}])
    with pytest.raises(DataError, match="1 judged documents are not in its corpus, such as 'gone'"):
        fetch_beir(name, tmp_path / "set")
    with pytest.raises(DataError, match="cannot be read"):
        fetch_beir(name, tmp_path / "set", splits=["dev"])
    assert not (tmp_path / "set").exists()
    (tmp_path / "set").mkdir()
    with pytest.raises(ConfigError, match="there already"):
        fetch_beir(name, tmp_path / "set", splits=["train"])
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link: is a link"):  # before a split is asked for that is not there
        fetch_beir(name, tmp_path / "link", splits=["dev"])
    with pytest.raises(ConfigError, match="no split"):
        fetch_beir(name, tmp_path / "other", splits=[])


def test_a_judged_query_without_a_text_is_refused(hub, tmp_path):
    with pytest.raises(DataError, match="1 judged queries are not in its queries"):
        fetch_beir(hub(queries=QUERIES[:1]), tmp_path / "set")


@pytest.mark.parametrize("grade", [0.5, float("nan"), float("inf"), "1", None])
def test_a_grade_that_is_no_whole_number_is_refused(hub, tmp_path, grade):
    name = hub(test=[{"query-id": "q0", "corpus-id": "d0", "score": grade}])
    with pytest.raises(DataError, match="a whole score"):
        fetch_beir(name, tmp_path / "set")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"corpus": [*CORPUS, CORPUS[-1]]}, "the id 'd19' occurs twice, so which of the two is judged is open"),
        ({"queries": [*QUERIES, QUERIES[0] | {"text": "another"}]}, "the id 'q0' occurs twice"),
        ({"test": [TEST[0] | {"corpus-id": "d\t1"}]}, r"the id 'd\\t1' has a tab or a line's end in it"),
        ({"test": [TEST[0] | {"query-id": "q\n1"}]}, r"the id 'q\\n1' has a tab or a line's end in it"),
    ],
)
def test_ids_that_a_folder_cannot_hold_are_refused(hub, tmp_path, tables, message):
    with pytest.raises(DataError, match=message):
        fetch_beir(hub(**tables), tmp_path / "set")
    assert not (tmp_path / "set").exists()
