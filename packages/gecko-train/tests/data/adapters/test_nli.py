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
