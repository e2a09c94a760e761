import pytest
from hypothesis import given
from hypothesis import strategies as st

from gecko_core.errors import DataError
from gecko_core.text_identity import text_id
from gecko_train.data.rows import Document, RowSet, TrainingRow


def test_texts_equal_up_to_case_and_space_share_an_id():
    assert text_id("Open  a FILE") == text_id("open a\nfile") != text_id("open a file?")
    assert text_id("open a file") != text_id("open the file")
    assert text_id("Title", "text") == Document("text", "Title").id


@given(st.text())
def test_ids_fit_into_int64_and_are_never_negative(text):
    assert 0 <= text_id(text) < 2**63


def some_rows(count):
    return [
        TrainingRow(
            "search result", f"query {n}", Document(f"passage {n}", "title" if n % 2 else None),
            tuple(Document(f"negative {n} {k}") for k in range(n % 3)),
            symmetric=n % 5 == 0, label=f"l{n % 4}" if n % 7 == 0 else None,
            scores=tuple(float(k) for k in range(1 + n % 3)) if n % 2 else None,
        )
        for n in range(count)
    ]  # fmt: skip


def texts_alone():
    return [
        TrainingRow("t", "asked", None, (Document("a"), Document("b")), scores=(0.5, 0.25)),
        TrainingRow("t", "alone", None),
        TrainingRow("t", None, None, (Document("passage", "title"),)),
    ]


def test_rows_survive_the_file_and_come_back_in_the_asked_order(tmp_path, monkeypatch):
    monkeypatch.setattr("gecko_train.data.rows._BATCH_ROWS", 16)  # several record batches
    rows = some_rows(47) + texts_alone()
    assert RowSet.write(tmp_path / "set.arrow", rows) == 50
    row_set = RowSet.open(tmp_path / "set.arrow")
    assert row_set.name == "set"
    assert list(row_set) == rows
    assert row_set.rows([49, 0, 17, 16, 0]) == [rows[49], rows[0], rows[17], rows[16], rows[0]]
    assert row_set.query_ids[3] == rows[3].query_id
    assert row_set.fingerprint == RowSet.from_rows("set", rows).fingerprint
    assert row_set.fingerprint != RowSet.from_rows("set", rows[::-1]).fingerprint


def test_an_empty_set_and_a_foreign_file_are_named(tmp_path):
    with pytest.raises(DataError, match="training set empty: no rows"):
        RowSet.from_rows("empty", [])
    (tmp_path / "broken.arrow").write_bytes(b"no arrow")
    with pytest.raises(DataError, match=r"broken\.arrow: not a training set file"):
        RowSet.open(tmp_path / "broken.arrow")


def test_scores_must_match_the_documents():
    with pytest.raises(DataError, match="2 scores for 1 positive and 0 negatives"):
        TrainingRow("t", "q", Document("p"), scores=(1.0, 2.0))


def test_rows_without_an_answer_have_ids_of_their_own_and_no_text_is_an_error():
    rows = texts_alone()
    assert len({row.positive_id for row in rows}) == len({row.query_id for row in rows}) == 3
    assert [row.answered for row in rows] == [False] * 3
    assert rows[2].query_id == Document("passage", "title").id
    with pytest.raises(DataError, match="a row without a query and without a document; leave it out"):
        TrainingRow("t", None, None)
    with pytest.raises(DataError, match="1 scores for 0 positive and 2 negatives"):
        TrainingRow("t", "q", None, (Document("a"), Document("b")), scores=(1.0,))
