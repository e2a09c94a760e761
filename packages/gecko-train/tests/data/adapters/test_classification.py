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
