from gecko_train.data.rows import Document


def test_hotpotqa_in_hub_and_release_layout(read_records):
    context = [["A", ["a1.", " a2."]], ["B", ["b1."]], ["C", ["c1."]]]
    release = {"question": "q", "context": context, "supporting_facts": [["A", 0], ["C", 0]]}
    hub = {
        "question": "q",
        "context": {"title": ["A", "B", "C"], "sentences": [["a1.", " a2."], ["b1."], ["c1."]]},
        "supporting_facts": {"title": ["A", "C"], "sent_id": [0, 0]},
    }
    assert read_records("hotpotqa", [release]) == read_records("hotpotqa", [hub])
    first, second = read_records("hotpotqa", [release])
    assert first.positive == Document("a1. a2.", "A")
    assert second.positive == Document("c1.", "C")
    assert first.negatives == (Document("b1.", "B"),)
