import pytest


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
    ],
)
def test_questions_with_their_passages(read_records, record, texts):
    assert [row.positive.text for row in read_records("qa", [record])] == texts
