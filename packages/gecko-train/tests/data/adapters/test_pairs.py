from gecko_train.data.rows import Document


def test_triplets_in_the_three_common_layouts(read_records):
    (row,) = read_records("triplets", [{"anchor": "q", "positive": "p", "negative_1": "n1", "negative_2": "n2"}])
    assert (row.query, row.positive, row.negatives) == ("q", Document("p"), (Document("n1"), Document("n2")))
    first, second = read_records("triplets", [{"query": "q", "pos": ["a", "b"], "neg": ["c"], "neg_scores": [0.5]}])
    assert [first.positive.text, second.positive.text] == ["a", "b"]
    assert first.negatives == (Document("c"),)
    record = {
        "query": "q",
        "positive_passages": [{"title": "t", "text": "p"}],
        "negative_passages": [{"docid": "1", "title": "", "text": "n"}],
    }
    (row,) = read_records("miracl", [record, {**record, "positive_passages": []}])
    assert row.positive == Document("p", "t")
    assert row.negatives == (Document("n", None),)
    assert row.task == "question answering"
