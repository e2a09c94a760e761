import pytest

from gecko_core.errors import DataError
from gecko_train.data.rows import Document


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"question": "q", "title": "T", "context": "c"}, ["c"]),
        ({"question": "q", "contexts": ["a", "b"]}, ["a b"]),
        ({"question": "q", "context": {"contexts": ["a", "b"]}}, ["a", "b"]),
        ({"question": "q", "snippets": ["a", "b"], "exact_answer": "yes"}, ["a", "b"]),
        ({"question": "q", "answer": ["first", "second"]}, ["first"]),
        ({"question": "q", "answer": "a", "label": 0}, []),
        ({"query": "q", "answer": "long answer"}, ["long answer"]),
        ({"question": "q", "passage": "c", "answer": False}, ["c"]),  # BoolQ on the hub
        ({"question": "q", "context": "c", "answers": {"text": [], "answer_start": []}}, []),
        ({"question": "q", "context": "c", "answers": {"text": ["a"]}, "is_impossible": False}, ["c"]),
        ({"question": "q", "context": "c", "answer": "", "is_impossible": True}, []),
        ({"question": "q", "context": "c", "has_answer": "false"}, []),
        ({"question": "q", "snippets": [{"text": "a", "document": "d1"}, {"text": "b"}]}, ["a", "b"]),  # BioASQ
        ({"question": "q", "contexts": [{"title": "T", "text": "a"}, {"text": "b"}]}, ["a", "b"]),
    ],
)
def test_questions_with_their_passages(read_records, record, texts):
    assert [row.positive.text for row in read_records("qa", [record])] == texts


def test_hard_negatives_are_kept(read_records):
    (row,) = read_records("qa", [{"question": "q", "passage": "right", "hard_negatives": ["one", "two", "right"]}])
    assert row.negatives == (Document("one"), Document("two"))


def test_titles_of_passages_and_of_the_record(read_records):
    record = {"question": "q", "title": 1984, "contexts": [{"title": "T", "text": "a"}, {"text": "b"}]}
    assert [row.positive for row in read_records("qa", [record])] == [Document("a", "T"), Document("b", "1984")]


@pytest.mark.parametrize(
    "record",
    [
        {"question": "q", "context": [["Title", ["One. ", "Two."]]]},  # HotpotQA
        {"question": "q", "context": {"title": ["T"], "sentences": [["One."]]}},
        {"question": "q", "answer": 4},
        {"question": "q", "answer": True},
        {"question": "q", "snippets": [{"body": "a"}]},
        {"question": "q", "context": "c", "title": ["T"]},
        {"question": "q", "answer": "a", "score": 17},
    ],
)
def test_what_is_no_passage_is_refused(read_records, record):
    with pytest.raises(DataError, match="set, row 1: "):
        read_records("qa", [record])


def test_a_passage_of_the_record_is_no_negative(read_records):
    record = {"question": "q", "title": "T", "snippets": ["a", "b"], "negatives": ["b", "c"]}
    assert [row.negatives for row in read_records("qa", [record])] == [(Document("c"),)] * 2


def test_a_label_in_some_records_alone_is_refused(read_records):
    labelled = [{"question": "q", "answer": "a", "label": 1}, {"question": "q", "answer": "b", "label": 0}]
    assert [row.positive.text for row in read_records("qa", labelled)] == ["a"]
    bare = {"question": "r", "answer": "c"}
    for records in ([*labelled, bare], [bare, *labelled]):
        with pytest.raises(DataError, match=r"unlike .*label all rows or none"):
            read_records("qa", records)
    pairs = [{"question": "q", "positive": "a", "label": 1}, {"question": "r", "positive": "c"}]
    with pytest.raises(DataError, match=r"unlike .*label all rows or none"):
        read_records("qa", pairs)


def test_records_that_name_their_positives_are_pairs(read_records):
    records = [{"question": "q", "positive": "a", "label": 1}, {"question": "q", "positive": "b", "label": 0}]
    (row,) = read_records("qa", records)
    assert (row.positive, row.negatives) == (Document("a"), (Document("b"),))


def test_a_query_without_positives_gives_no_row(read_records):
    """MIRACL holds some; they were refused here and left out there."""
    records = [{"query": "q", "positive_passages": []}, {"query": "r", "positive_passages": [{"text": "a"}]}]
    assert [row.query for row in read_records("qa", records)] == ["r"]
    assert len(read_records("qa", [{"query": "q", "positive_passages": [], "context": "c"}])) == 1
