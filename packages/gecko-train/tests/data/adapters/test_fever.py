from gecko_train.data.rows import Document


def test_fever_takes_decisive_evidence(read_records):
    evidences = [
        {"evidence": "yes", "article": "T", "evidence_label": "SUPPORTS"},
        {"evidence": "well", "article": "U", "evidence_label": "NOT_ENOUGH_INFO"},
    ]
    (row,) = read_records("fever", [{"claim": "c", "evidences": evidences}])
    assert (row.query, row.positive, row.negatives) == ("c", Document("yes", "T"), (Document("well", "U"),))
