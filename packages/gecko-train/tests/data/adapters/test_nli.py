import pytest

from gecko_core.errors import DataError


def test_nli_groups_by_premise_and_language(read_records):
    records = [
        {"premise": "A", "hypothesis": "yes", "label": 0},
        {"premise": "A", "hypothesis": "no", "label": "contradiction"},
        {"premise": "A", "hypothesis": "perhaps", "label": 1},
        {"premise": "A", "hypothesis": "undecided", "label": -1},
        {"premise": "B", "hypothesis": "alone", "label": "entailment"},
    ]
    first, second = read_records("snli", records)
    assert (first.query, first.positive.text, [n.text for n in first.negatives]) == ("A", "yes", ["no"])
    assert (second.query, second.negatives) == ("B", ())
    assert first.symmetric


def test_labels_from_a_csv_are_numbers_as_text(read_records):
    records = [
        {"premise": "A", "hypothesis": f"h{label}", "label": label} for label in ("0", "1", "2", "-1", "Entailment")
    ]
    rows = read_records("nli", records)
    assert [(row.positive.text, [n.text for n in row.negatives]) for row in rows] == [
        ("h0", ["h2"]),
        ("hEntailment", ["h2"]),
    ]


@pytest.mark.parametrize("label", [True, 0.5, [0], "not_entailment", 3])
def test_other_labels_are_refused(read_records, label):
    with pytest.raises(DataError, match=r"set, row 1: label .*; expected entailment"):
        read_records("nli", [{"premise": "A", "hypothesis": "h", "label": label}])


def test_a_hypothesis_that_is_entailed_as_well_is_no_negative(read_records):
    labels = (("a", "entailment"), ("A", "contradiction"), ("b", "contradiction"))
    records = [{"premise": "p", "hypothesis": text, "label": label} for text, label in labels]
    (row,) = read_records("nli", records)
    assert [negative.text for negative in row.negatives] == ["b"]
