import pytest

from gecko_core.errors import DataError
from gecko_train.data.adapters import ADAPTERS, Settings
from gecko_train.data.rows import Document


def read(source, records, **settings):
    adapter = ADAPTERS[source]
    found = Settings(**{"task": adapter.task, "symmetric": adapter.symmetric, **settings})
    return list(adapter.read([{**record, "_where": f"set row {n}"} for n, record in enumerate(records, 1)], found))


def test_triplets_in_the_three_common_layouts():
    (row,) = read("triplets", [{"anchor": "q", "positive": "p", "negative_1": "n1", "negative_2": "n2"}])
    assert (row.query, row.positive, row.negatives) == ("q", Document("p"), (Document("n1"), Document("n2")))
    first, second = read("triplets", [{"query": "q", "pos": ["a", "b"], "neg": ["c"], "neg_scores": [0.5]}])
    assert [first.positive.text, second.positive.text] == ["a", "b"]
    assert first.negatives == (Document("c"),)
    record = {
        "query": "q",
        "positive_passages": [{"title": "t", "text": "p"}],
        "negative_passages": [{"docid": "1", "title": "", "text": "n"}],
    }
    (row,) = read("miracl", [record, {**record, "positive_passages": []}])
    assert row.positive == Document("p", "t")
    assert row.negatives == (Document("n", None),)
    assert row.task == "question answering"


def test_nli_groups_by_premise_and_language():
    records = [
        {"premise": "A", "hypothesis": "yes", "label": 0},
        {"premise": "A", "hypothesis": "no", "label": "contradiction"},
        {"premise": "A", "hypothesis": "perhaps", "label": 1},
        {"premise": "A", "hypothesis": "undecided", "label": -1},
        {"premise": "B", "hypothesis": "alone", "label": "entailment"},
    ]
    one, two = read("snli", records)
    assert (one.query, one.positive.text, [n.text for n in one.negatives]) == ("A", "yes", ["no"])
    assert (two.query, two.negatives) == ("B", ())
    assert one.symmetric


def test_classification_takes_the_label_for_the_positive_and_another_for_the_negative():
    records = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(20)]
    rows = read("classification", records, negatives=2)
    label = {record["text"]: record["label"] for record in records}
    assert len(rows) == 20
    for row in rows:
        assert row.label == label[row.query] == label[row.positive.text]
        assert row.positive.text != row.query
        assert all(label[negative.text] != row.label for negative in row.negatives)
    assert rows == read("classification", records, negatives=2)


def test_classification_with_the_papers_unique_ids():
    records = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(8)]
    rows = read("classification", records, unique_ids=True)
    marks = [row.query.split("[")[1] for row in rows]
    assert len(set(marks)) == 8
    assert all(row.positive.text.endswith(mark) for row, mark in zip(rows, marks, strict=True))
    assert all(row.label is None for row in rows)


def test_hotpotqa_in_hub_and_release_layout():
    context = [["A", ["a1.", " a2."]], ["B", ["b1."]], ["C", ["c1."]]]
    release = {"question": "q", "context": context, "supporting_facts": [["A", 0], ["C", 0]]}
    hub = {
        "question": "q",
        "context": {"title": ["A", "B", "C"], "sentences": [["a1.", " a2."], ["b1."], ["c1."]]},
        "supporting_facts": {"title": ["A", "C"], "sent_id": [0, 0]},
    }
    assert read("hotpotqa", [release]) == read("hotpotqa", [hub])
    one, two = read("hotpotqa", [release])
    assert one.positive == Document("a1. a2.", "A")
    assert two.positive == Document("c1.", "C")
    assert one.negatives == (Document("b1.", "B"),)


def test_fever_takes_decisive_evidence():
    evidences = [
        {"evidence": "yes", "article": "T", "evidence_label": "SUPPORTS"},
        {"evidence": "well", "article": "U", "evidence_label": "NOT_ENOUGH_INFO"},
    ]
    (row,) = read("fever", [{"claim": "c", "evidences": evidences}])
    assert (row.query, row.positive, row.negatives) == ("c", Document("yes", "T"), (Document("well", "U"),))


def test_medmcqa_in_both_layouts():
    one = read("medmcqa", [{"question": "q", "options": ["a", "b", "c", "d"], "answer_index": 2}])
    two = read("medmcqa", [{"question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 2}])
    assert one == two
    assert one[0].positive.text == "c"
    assert [negative.text for negative in one[0].negatives] == ["a", "b", "d"]
    assert read("medmcqa", [{"question": "q", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": -1}]) == []


@pytest.mark.parametrize(
    ("record", "texts"),
    [
        ({"question": "q", "title": "T", "context": "c"}, ["c"]),
        ({"question": "q", "contexts": ["a", "b"]}, ["a b"]),
        ({"question": "q", "context": {"contexts": ["a", "b"]}}, ["a", "b"]),
        ({"question": "q", "snippets": ["a", "b"], "exact_answer": "yes"}, ["a", "b"]),
        ({"question": "q", "answer": ["first", "second"]}, ["first"]),
        ({"question": "q", "answer": "a", "label": 0}, []),
        ({"query": "q", "answer": "long answer"}, ["long answer"]),
    ],
)
def test_questions_with_their_passages(record, texts):
    assert [row.positive.text for row in read("qa", [record])] == texts


@pytest.mark.parametrize(
    ("source", "records", "message"),
    [
        ("triplets", [{"query": "q"}], "set row 1: no 'positive' .columns: query."),
        ("triplets", [{"query": " ", "positive": "p"}], "set row 1: 'query' is empty"),
        ("snli", [{"premise": "p", "hypothesis": "h", "label": "maybe"}], "set row 1: label 'maybe'"),
        ("classification", [{"text": "a", "label": 1}, {"text": "b", "label": 1}], "the one label '1'"),
        ("qa", [{"question": "q"}], "set row 1: no context, snippets or answer"),
    ],
)
def test_what_does_not_fit_names_the_row_and_the_cure(source, records, message):
    with pytest.raises(DataError, match=message):
        read(source, records)
