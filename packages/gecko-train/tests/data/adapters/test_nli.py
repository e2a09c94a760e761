def test_nli_groups_by_premise_and_language(read_records):
    records = [
        {"premise": "A", "hypothesis": "yes", "label": 0},
        {"premise": "A", "hypothesis": "no", "label": "contradiction"},
        {"premise": "A", "hypothesis": "perhaps", "label": 1},
        {"premise": "A", "hypothesis": "undecided", "label": -1},
        {"premise": "B", "hypothesis": "alone", "label": "entailment"},
    ]
    one, two = read_records("snli", records)
    assert (one.query, one.positive.text, [n.text for n in one.negatives]) == ("A", "yes", ["no"])
    assert (two.query, two.negatives) == ("B", ())
    assert one.symmetric
