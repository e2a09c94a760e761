import pytest

from gecko_core.errors import DataError
from gecko_core.text_identity import text_id


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


def two_labels(count=12):
    """Texts of two classes, of which two are in both."""
    return [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(count)] + [
        {"text": text, "label": label} for text in ("Both", "both  ways") for label in "ab"
    ]


@pytest.mark.parametrize("settings", [{}, {"negatives": 4, "unique_ids": True}])
def test_a_text_of_two_classes_is_a_negative_of_neither(read_records, settings):
    for seed in range(5):
        rows = read_records("classification", two_labels(), seed=seed, **settings)
        assert len(rows) == 16
        for row in rows:
            assert {text_id(negative.text.split(" [")[0]) for negative in row.negatives}.isdisjoint(
                {text_id("both"), text_id("both ways")}
            )
            has_both = text_id(row.query.split(" [")[0]) in {text_id("both"), text_id("both ways")}
            assert len(row.negatives) == (0 if has_both else settings.get("negatives", 1))


def test_no_negative_is_of_any_class_of_the_query(read_records):
    """A text of two classes of three had those of its other class as negatives."""
    records = [{"text": f"text {n}", "label": "abc"[n % 3]} for n in range(12)]
    records += [{"text": "both", "label": label} for label in "ab"]
    classes = {
        record["text"]: {other["label"] for other in records if other["text"] == record["text"]} for record in records
    }
    for seed in range(5):
        rows = read_records("classification", records, seed=seed, negatives=3)
        assert len(rows) == 14
        for row in rows:
            assert len(row.negatives) == 3
            assert all(classes[negative.text].isdisjoint(classes[row.query]) for negative in row.negatives)


def test_a_row_to_which_all_other_texts_belong_has_no_negative(read_records):
    records = [{"text": text, "label": label} for label in "ab" for text in ("play some jazz", "cold in winter")]
    rows = read_records("classification", records)
    assert len(rows) == 4
    assert all(row.negatives == () and row.positive.text != row.query for row in rows)


def test_the_positive_is_another_text(read_records):
    records = [{"text": text, "label": "a"} for text in ("one", "ONE", "One ", "two")]
    rows = read_records("classification", [*records, {"text": "x", "label": "b"}, {"text": "x ", "label": "b"}])
    assert [row.positive.text for row in rows] == ["two"] * 3 + [rows[3].positive.text]  # and none of b
    assert text_id(rows[3].positive.text) == text_id("one")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"label": 0, "label_text": ""}, "label '0' has no value in 'label_text', and 'joy' in set, row 1"),
        ({"label": 0}, "label '0' has no value in 'label_text', and 'joy' in set, row 1"),
        ({"label": 0, "label_text": "Joy"}, "label '0' has 'Joy' in 'label_text', and 'joy' in set, row 1"),
        ({"label": 1, "label_text": "joy"}, "label_text 'joy' has '1' in 'label', and '0' in set, row 1"),
        ({"label_text": "joy"}, "label_text 'joy' has no value in 'label', and '0' in set, row 1"),
        ({"label": "joy"}, "label 'joy' has 'joy' in 'label', and '0' in set, row 1"),
    ],
)
def test_labels_that_do_not_go_together_are_refused(read_records, second, message):
    first = {"text": "a", "label": 0, "label_text": "joy"}
    with pytest.raises(DataError, match=f"set, row 2: {message}, so whether the two rows are of one class"):
        read_records("classification", [first, {"text": "b", **second}])


def test_labels_alone_name_classes_where_no_row_has_a_text(read_records):
    records = [{"text": f"t{n}", "label": n % 2, "label_text": " "} for n in range(4)]
    assert [row.label for row in read_records("classification", records)] == ["0", "1", "0", "1"]


def test_white_space_around_a_label_is_none_of_it(read_records):
    records = [{"text": text, "label": label} for text, label in (("a", "x"), ("b", "x "), ("c", "y"), ("d", " y"))]
    assert {row.label for row in read_records("classification", records, unique_ids=False)} == {"x", "y"}
    with pytest.raises(DataError, match="the label is ' '; expected one class"):
        read_records("classification", [*records, {"text": "e", "label": " "}])
