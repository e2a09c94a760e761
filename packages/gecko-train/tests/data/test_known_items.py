from dataclasses import replace

import pytest

from gecko_core.text_identity import text_id
from gecko_fret import Candidate, FretData
from gecko_fret.corpus import Corpus, Passage
from gecko_fret.steps import MinedRow
from gecko_train.config import FinetuneConfig
from gecko_train.data.known_items import known_items

PASSAGES = Corpus([Passage(f"p{n}", f"title {n}", f"text of number {n}") for n in range(60)])
LONG = Corpus([Passage(f"l{n}", None, " ".join(f"word{n}x{m}" for m in range(20))) for n in range(30)])


def mined(count, probability=True, answered=lambda n: True):
    rows = []
    for n in range(count):
        ids = [f"p{(n + step) % 60}" for step in (0, 1, 2)]
        values = (0.7, 0.2, 0.1) if probability else (None,) * 3
        candidates = [
            Candidate(name, 0.5, None, None, None, None, 1.0 / (1 + place), {}, value)
            for place, (name, value) in enumerate(zip(ids, values, strict=True))
        ]
        positive = ids[0] if answered(n) else None
        rows.append(MinedRow(f"r{n}", "the task", f"query {n}", positive, [ids[2]], ids[0], 1, candidates))
    return rows


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Puts rows into what is read as a FRet folder."""

    def put(rows):
        data = FretData(rows, PASSAGES, {})
        monkeypatch.setattr("gecko_train.data.known_items.load_fret", lambda path: data)
        return tmp_path

    return put


def finetune(**known):
    return FinetuneConfig.model_validate({"sets": [{"source": "fret"}], "known_items": known})


def test_a_share_of_the_rows_is_set_apart_whatever_their_number(folder):
    path = folder(mined(80))
    items = known_items(finetune(), None, path, seed=0)
    assert len(items.rows) == 8
    assert items.queries == {text_id(row.query) for row in items.rows}
    assert known_items(finetune(), None, path, seed=0) == items
    assert known_items(finetune(), None, path, seed=1).queries != items.queries
    assert len(known_items(finetune(queries=6), None, path, seed=0).rows) == 6
    assert len(known_items(finetune(share=0.5), None, path, seed=0).rows) == 40
    for none in (finetune(queries=0), finetune(share=0.05)):  # 4 would be too few
        assert not known_items(none, None, path, seed=0)


def test_rows_keep_their_answer_and_what_the_judges_say(folder):
    items = known_items(finetune(documents=50), None, folder(mined(80, answered=lambda n: n % 2)), seed=0)
    assert 1 < sum(row.answer is None for row in items.rows) < len(items.rows) - 1
    for row in items.rows:
        number = int(row.query.split()[1])
        texts = [items.documents[place].text for place in row.candidates]
        assert texts == [f"text of number {(number + step) % 60}" for step in (0, 1, 2)]
        assert row.gains == (0.7, 0.2, 0.1)
        assert row.task == "the task"
        assert row.answer is None or items.documents[row.answer].title == f"title {number % 60}"
    assert len(items.documents) == len(set(items.documents)) == 50


def test_without_probabilities_the_fused_scores_are_the_gains(folder):
    items = known_items(finetune(), None, folder(mined(60, probability=False)), seed=0)
    assert {row.gains for row in items.rows} == {(1.0, 0.5, 1 / 3)}


def test_sets_of_other_sources_give_none(folder):
    path = folder(mined(80))
    config = FinetuneConfig.model_validate({"sets": [{"source": "pairs", "path": "x"}]})
    assert not known_items(config, None, path, seed=0)
    assert not known_items(finetune(), None, None, seed=0)


def test_titles_are_not_set_apart_as_queries(folder):
    rows = [replace(row, source="titles" if n % 2 else "llm") for n, row in enumerate(mined(40))]
    items = known_items(finetune(share=0.5), None, folder(rows), seed=0)
    assert len(items.rows) == 20
    assert all(int(row.query.split()[1]) % 2 == 0 for row in items.rows)


def test_words_are_drawn_from_the_passages_of_fret_or_from_the_own_corpus(folder):
    config = finetune(queries=0, words=12)
    items = known_items(config, None, None, seed=0, corpus=LONG, task="find")
    assert len(items.words) == 12
    assert not items.rows
    assert len(items.documents) == len(LONG)
    for item in items.words:
        assert item.task == "find"
        assert set(item.query.split()) <= set(items.documents[item.answer].text.split())
    of_fret = known_items(config, None, folder(mined(80)), seed=0)  # texts of four words, too short to draw from
    assert not of_fret.words
    assert not of_fret
    assert not of_fret.documents
    assert not known_items(finetune(queries=0, words=0), None, None, seed=0, corpus=LONG)
    few = Corpus(LONG[:4])
    assert not known_items(config, None, None, seed=0, corpus=few)  # too few to tell models apart


def test_words_search_the_pool_that_the_rows_of_fret_search(monkeypatch, tmp_path):
    rows = [replace(row, positive_id="l0", negative_ids=["l1"], seed_id="l0", candidates=[]) for row in mined(60)]
    monkeypatch.setattr("gecko_train.data.known_items.load_fret", lambda path: FretData(rows, LONG, {}))
    items = known_items(finetune(documents=20), None, tmp_path, seed=0)
    assert len(items.documents) == 20
    assert len(items.rows) == 6
    assert 5 <= len(items.words) <= 20
    assert not items.queries & {text_id(item.query) for item in items.words}
