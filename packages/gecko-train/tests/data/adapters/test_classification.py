import pytest

from gecko_core.errors import DataError


def test_classification_takes_the_label_for_the_positive_and_another_for_the_negative(read_records):
    records = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    rows = read_records("classification", records, negatives=2)
    label = {record["text"]: record["label"] for record in records}
    assert len(rows) == 20
    for row in rows:
        assert row.label == label[row.query] == label[row.positive.text]
        assert row.positive.text != row.query
        assert all(label[negative.text] != row.label for negative in row.negatives)
    assert rows == read_records("classification", records, negatives=2)


def test_classification_with_the_papers_unique_ids(read_records):
    records = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(8)]
    rows = read_records("classification", records, unique_ids=True)
    marks = [row.query.split("[")[1] for row in rows]
    assert len(set(marks)) == 8
    assert all(row.positive.text.endswith(mark) for row, mark in zip(rows, marks, strict=True))
    assert all(row.label is None for row in rows)


def test_a_rare_class_is_found_without_drawing_for_ever(read_records):
    """With one row in n of another class, as many draws as rows were made for every row."""
    records = [{"text": f"text {n}", "label": "rare" if n == 7 else "common"} for n in range(5_000)]
    rows = read_records("classification", records, negatives=2)
    assert len(rows) == 4_999
    assert all({negative.text for negative in row.negatives} == {"text 7"} for row in rows)


def test_classes_that_end_in_nul_are_others(read_records):
    records = [{"text": f"t{n}", "label": "x\0" if n % 2 else "x"} for n in range(6)]
    for row in read_records("classification", records):
        assert int(row.query[1:]) % 2 == int(row.positive.text[1:]) % 2 != int(row.negatives[0].text[1:]) % 2


def test_classes_are_texts_or_whole_numbers(read_records):
    labels = ["1", 1, 1.0, 2, "2"]
    rows = read_records("classification", [{"text": f"t{n}", "label": label} for n, label in enumerate(labels)])
    assert [row.label for row in rows] == ["1", "1", "1", "2", "2"]
    named = [{"text": f"t{n}", "label": n % 2, "label_text": "ab"[n % 2]} for n in range(4)]
    assert [row.label for row in read_records("classification", named)] == ["a", "b", "a", "b"]
    assert len(read_records("classification", [{"text": f"t{n}", "label_text": "ab"[n % 2]} for n in range(4)])) == 4


@pytest.mark.parametrize("label", [[1, 2], {"a": 1}, 0.5, ""])
def test_several_classes_and_grades_are_refused(read_records, label):
    with pytest.raises(DataError, match=r"set, row 1: the label is .*; expected one class"):
        read_records("classification", [{"text": "a", "label": label}])
