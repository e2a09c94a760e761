import pytest

from gecko_core.errors import DataError
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


@pytest.mark.parametrize(
    ("context", "facts"),
    [
        ("text", [["A", 0]]),
        ([["A", "not a list"]], [["A", 0]]),
        ([["A"]], [["A", 0]]),
        ([[1984, ["x"]]], [["A", 0]]),
        ({"title": ["A", "B"], "sentences": [["x"]]}, [["A", 0]]),
        ([["A", ["x"]]], {"titles": ["A"]}),
        ([["A", ["x"]]], ["A"]),
    ],
)
def test_another_layout_is_refused(read_records, context, facts):
    with pytest.raises(DataError, match="set, row 1: "):
        read_records("hotpotqa", [{"question": "q", "context": context, "supporting_facts": facts}])


def test_two_paragraphs_of_one_title_are_refused(read_records):
    context = [["Mercury", ["A planet."]], ["Mercury", ["An element."]]]
    record = {"question": "q", "supporting_facts": [["Mercury", 0]], "context": context}
    with pytest.raises(DataError, match="two paragraphs in 'context' have the title 'Mercury'"):
        read_records("hotpotqa", [record])
    (row,) = read_records("hotpotqa", [record | {"context": [context[0], context[0]]}])
    assert row.positive.text == "A planet."


def test_titles_are_compared_in_one_form(read_records):
    context = [["Caf\u00e9  de Flore", ["Right."]], ["Other", ["Wrong."]]]
    facts = [["Cafe\u0301 de Flore ", 0]]
    (row,) = read_records("hotpotqa", [{"question": "q", "context": context, "supporting_facts": facts}])
    assert (row.positive.text, [negative.text for negative in row.negatives]) == ("Right.", ["Wrong."])
    twice = [*context, ["Caf\u00e9 de Flore", ["Another."]]]
    with pytest.raises(DataError, match="two paragraphs in 'context' have the title"):
        read_records("hotpotqa", [{"question": "q", "context": twice, "supporting_facts": facts}])


def test_a_supporting_title_of_no_paragraph_is_refused(read_records):
    """Its paragraph, under a title that is written otherwise, was a hard negative."""
    context = [["Arthur\u2019s Magazine", ["Right."]], ["Other", ["Right, too."]], ["Third", ["Wrong."]]]
    record = {"question": "q", "context": context, "supporting_facts": [["Other", 0], ["Arthur's Magazine", 0]]}
    with pytest.raises(DataError, match="set, row 1: no paragraph in 'context' has the title \"Arthur's Magazine\" of"):
        read_records("hotpotqa", [record])
