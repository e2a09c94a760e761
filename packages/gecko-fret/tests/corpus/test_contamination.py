import json

import pytest

from gecko_core.errors import DataError
from gecko_fret.corpus.contamination import Contamination, content_fingerprint
from gecko_fret.corpus.passages import Passage
from gecko_fret.text_rules import RULES

WORDS = [f"word{i}" for i in range(40)]


def test_equal_texts_are_found_whatever_their_spacing():
    reason = Contamination([("set", "A cat, sat.")]).find("a CAT sat")
    assert reason == "equals a text of set"
    assert Contamination([("set", "A cat, sat.")]).find("a cat sat down") is None
    assert Contamination([("set", "")]).find("") is None


def test_passages_are_found_with_their_titles_and_without(tmp_path):
    """Words of a title that both have, or that one of them has, hid a text that is shorter than 13 words."""
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "1", "title": "Of cats", "text": "the cat sat"}))
    check = Contamination.load([str(tmp_path)])
    for title, text in (("Of cats", "the cat sat"), ("Pets", "the cat sat"), (None, "Of cats the cat sat")):
        assert check.find_passage(Passage("1", title, text)) == f"equals a text of {tmp_path.name}"
    assert check.find_passage(Passage("1", "Of cats", "the dog ran")) is None


def test_half_of_the_13_grams_is_the_border():
    check = Contamination([("set", " ".join(WORDS))])
    kept = WORDS[:26]  # 14 of its 13-grams are known
    other = [f"new{i}" for i in range(30)]
    assert "50%" in check.find(" ".join(kept + other[:14]))
    assert check.find(" ".join(kept + other[:15])) is None
    assert check.find(" ".join(WORDS[:12])) is None


def test_beir_folders_and_tables_are_read(tmp_path):
    (tmp_path / "beir").mkdir()
    for name, text in (("queries", "who sat on the mat"), ("corpus", "the cat sat")):
        (tmp_path / "beir" / f"{name}.jsonl").write_text(json.dumps({"_id": "1", "text": text}))
    (tmp_path / "more.csv").write_text("text\nthe dog ran\n")
    check = Contamination.load([str(tmp_path / "beir"), str(tmp_path / "more.csv")])
    assert all(check.find(text) for text in ("Who sat on the mat?", "the cat sat", "The dog ran"))
    with pytest.raises(DataError, match="no such evaluation set"):
        Contamination.load([str(tmp_path / "absent")])


def test_queries_are_found_in_every_kind_of_file(tmp_path):
    """One a line, in a column beside the passages, or in one of their own."""
    (tmp_path / "log.txt").write_text("who sat on the mat\nwhere did the dog run\n")
    (tmp_path / "both.jsonl").write_text(json.dumps({"query": "who ran", "text": "the dog ran", "title": 12}))
    (tmp_path / "queries.csv").write_text("query\nis there a bird\n")
    names = ("log.txt", "both.jsonl", "queries.csv")
    check = Contamination.load([str(tmp_path / name) for name in names])
    found = ("Where did the dog run?", "Who ran", "The dog ran.", "12 the dog ran", "Is there a bird")
    assert all(check.find(text) for text in found)
    (tmp_path / "other.csv").write_text("question\nis there a bird\n")
    with pytest.raises(DataError, match=r"other.csv.*: neither a 'query' nor a 'text' \(columns: question;"):
        Contamination.load([str(tmp_path / "other.csv")])


@pytest.mark.parametrize("layout", ["data beside a page", "a folder of parts"])
def test_files_that_would_not_be_read_are_told(tmp_path, layout):
    folder = tmp_path / "set"
    (folder / "corpus").mkdir(parents=True)
    if layout == "data beside a page":
        (folder / "README.md").write_text("a data set")
    else:
        (folder / "queries.jsonl").write_text(json.dumps({"_id": "1", "text": "who sat on the mat"}))
    (folder / "corpus" / "part.csv").write_text("text\nthe dog ran\n")
    with pytest.raises(DataError, match=r"would not be read \(mine.decontaminate\): a folder holds queries.jsonl and"):
        Contamination.load([str(folder)])


def test_sets_are_found_below_the_data_folder_too(tmp_path, monkeypatch):
    (tmp_path / "beir").mkdir()
    (tmp_path / "beir" / "queries.jsonl").write_text(json.dumps({"_id": "1", "text": "who sat on the mat"}))
    monkeypatch.setenv("GECKO_DATA_DIR", str(tmp_path))
    assert Contamination.load(["beir"]).find("Who sat on the mat?")
    assert content_fingerprint("beir") == content_fingerprint(str(tmp_path / "beir"))


def test_evaluation_sets_are_read_by_the_rules_of_the_folder(tmp_path):
    (tmp_path / "page.html").write_text("<td>Paris</td><td>2148000</td>")
    first, latest = (Contamination.load([str(tmp_path / "page.html")], RULES[version]) for version in (2, 3))
    texts = ("Paris2148000", "Paris 2148000")
    assert [first.find(text) is None for text in texts] == [False, True]
    assert [latest.find(text) is None for text in texts] == [True, False]


def test_fingerprint_follows_the_content_not_the_place(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder / "beir").mkdir(parents=True)
        (tmp_path / folder / "beir" / "queries.jsonl").write_text('{"text": "who sat"}')
    first, second = (content_fingerprint(str(tmp_path / folder / "beir")) for folder in "ab")
    assert first == second
    (tmp_path / "b" / "beir" / "queries.jsonl").write_text('{"text": "who ran"}')
    assert content_fingerprint(str(tmp_path / "b" / "beir")) != first
    with pytest.raises(DataError, match="no such evaluation set"):
        content_fingerprint(str(tmp_path / "absent"))


def test_tables_behind_links_are_seen(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.jsonl").write_text('{"_id": "1", "text": "more"}\n')
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("a text")
    before = content_fingerprint(str(tmp_path / "set"))
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"more\.jsonl would not be read"):
        content_fingerprint(str(tmp_path / "set"))
    (tmp_path / "elsewhere" / "more.jsonl").rename(tmp_path / "elsewhere" / "more.txt")
    assert content_fingerprint(str(tmp_path / "set")) != before
