import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gecko_core.errors import DataError
from gecko_core.text_identity import text_id
from gecko_train.data.mixture import distinct
from gecko_train.data.rows import Document, RowSet, TrainingRow, without_passages


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


@pytest.mark.parametrize(
    ("document", "counts"),
    [
        (Document("other"), True),
        (Document("passage", "title"), False),
        (Document("Passage"), False),  # without its title
        (Document("passage", "another title"), True),
        (Document("QUERY "), False),
    ],
)
def test_an_equal_text_is_no_negative(document, counts):
    row = TrainingRow("t", "query", Document("passage", "title"), (document,), label="a")
    assert row.is_negative(document) is counts
    assert RowSet.from_rows("a", [row]).has_hard_negatives() is counts


def test_titles_tell_no_passages_apart_where_they_are_not_read():
    row = TrainingRow("t", "query", Document("passage", "title"), symmetric=True)
    assert not row.is_negative(Document("passage", "another title"))


def test_documents_that_are_none_of_some_passages():
    passages = [Document("a", "t"), Document("b")]
    documents = [Document(*parts) for parts in (("A",), ("a", "u"), ("b", "u"), ("b",), ("c",), ("a", "T"))]
    assert without_passages(documents, passages) == (Document("a", "u"), Document("c"))
    assert without_passages(iter(documents), []) == tuple(documents)


def pairs(*texts, **fields):
    return RowSet.from_rows("a", [TrainingRow("t", query, Document(text), **fields) for query, text in texts])


def test_the_plan_of_a_set_is_another_only_where_queries_are_other_rows_passages():
    def plain(row_set):
        ids = (row_set.query_ids, np.array([row.positive_id for row in row_set], dtype=np.int64))
        return hashlib.sha256(f"a\0{len(row_set)}".encode() + b"".join(side.tobytes() for side in ids)).hexdigest()

    for same in (pairs("ab", "cd"), pairs("aa", "bb", "ac"), pairs("ab", "bc", "ca", label="x")):
        assert same.fingerprint == plain(same)
    for other in (pairs("ab", "ba"), pairs("ab", "bc")):
        assert other.fingerprint != plain(other)


def test_rows_of_one_label_may_have_each_others_texts():
    same = pairs("ab", "bc", label="x")
    assert len(distinct(same.query_ids, same.positive_ids, 8)) == 2
    two = RowSet.from_rows("a", [*same, TrainingRow("t", "d", Document("b"), label="y")])
    assert distinct(two.query_ids, two.positive_ids, 8).tolist() == [0]


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
