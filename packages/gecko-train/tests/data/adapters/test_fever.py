import pytest

from gecko_core.errors import DataError
from gecko_train.data.rows import Document


def test_fever_takes_decisive_evidence(read_records):
    evidences = [
        {"evidence": "yes", "article": "T", "evidence_label": "SUPPORTS"},
        {"evidence": "well", "article": "U", "evidence_label": "NOT_ENOUGH_INFO"},
    ]
    (row,) = read_records("fever", [{"claim": "c", "evidences": evidences}])
    assert (row.query, row.positive, row.negatives) == ("c", Document("yes", "T"), (Document("well", "U"),))


@pytest.mark.parametrize("label", ["NOT ENOUGH INFO", "not_enough_info", 2, "2"])
def test_labels_of_evidence_and_of_whole_records(read_records, label):
    evidences = [{"evidence": "no", "evidence_label": label}, {"evidence": "yes", "evidence_label": "refutes"}]
    (row,) = read_records("fever", [{"claim": "c", "evidences": evidences}])
    assert (row.positive, row.negatives) == (Document("yes"), (Document("no"),))
    pair = {"claim": "c", "document": "d", "label": label}
    assert read_records("fever", [pair]) == []
    assert len(read_records("fever", [pair | {"label": "SUPPORTS"}])) == 1


@pytest.mark.parametrize(
    ("evidences", "message"),
    [
        ([{"evidence": "x", "evidence_label": "DISPUTED"}], "label 'DISPUTED' of evidence; expected SUPPORTS"),
        ([{"evidence_label": "SUPPORTS"}], "no 'evidence'"),
        ([{"evidence": ["x"], "evidence_label": "SUPPORTS"}], "'evidence' is list, not a text"),
        (["x"], "'evidences' is no list of objects"),
    ],
)
def test_unknown_labels_and_layouts_are_refused(read_records, evidences, message):
    with pytest.raises(DataError, match=f"set, row 1: {message}"):
        read_records("fever", [{"claim": "c", "evidences": evidences}])


def test_evidence_that_decides_is_no_negative(read_records):
    evidences = [{"evidence": "e", "evidence_label": label} for label in ("SUPPORTS", "NOT_ENOUGH_INFO")]
    (row,) = read_records("fever", [{"claim": "c", "evidences": evidences}])
    assert row.negatives == ()


@pytest.mark.parametrize("column", ["label", "Label", "gold_label", "relevance"])
def test_the_label_of_a_claim_is_that_of_evidence_whatever_its_column_is_called(read_records, column):
    records = [{"claim": f"c{label}", "document": f"d{label}", column: label} for label in (0, 1, 2)]
    assert [row.query for row in read_records("fever", records)] == ["c0", "c1"]


def test_records_without_evidences_know_those_next_to_them(read_records):
    records = [
        {"claim": "c", "positive": "yes", "label": "SUPPORTS"},
        {"claim": "c", "positive": "no", "label": "NOT ENOUGH INFO"},
    ]
    (row,) = read_records("fever", records)
    assert (row.positive, row.negatives) == (Document("yes"), (Document("no"),))
    with pytest.raises(DataError, match=r"unlike .*label all rows or none"):
        read_records("fever", [*records, {"claim": "c", "positive": "unlabelled"}])
