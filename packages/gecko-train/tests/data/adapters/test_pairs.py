import pytest

from gecko_core.errors import DataError
from gecko_train.data.adapters.base import RenamedFields
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


@pytest.mark.parametrize("label", [0, "0", False, 0.0, "false"])
@pytest.mark.parametrize("column", ["label", "is_duplicate"])
def test_a_pair_that_is_labelled_wrong_is_a_negative_of_its_query(read_records, column, label):
    """As sentence-transformers' mine_hard_negatives writes them, and sets of duplicate questions."""
    right = type(label)(1) if label != "false" else "true"
    records = [
        {"query": "France", "answer": "Paris", column: right},
        {"query": "France", "answer": "Rome", column: label},
        {"query": "France", "answer": "Berlin", column: label},
        {"query": "Norway", "answer": "Bern", column: label},
        {"query": "Spain", "answer": "Lima", column: label},
        {"query": "Spain", "answer": "Madrid", column: right, "negative": "Vigo"},
    ]
    first, second = read_records("pairs", records)
    assert (first.query, first.positive.text, [n.text for n in first.negatives]) == (
        "France",
        "Paris",
        ["Rome", "Berlin"],
    )
    assert (second.query, second.positive.text, [n.text for n in second.negatives]) == (
        "Spain",
        "Madrid",
        ["Vigo", "Lima"],
    )


def test_scores_and_other_labels_say_nothing_without_a_threshold(read_records):
    records = [{"sentence1": "a", "sentence2": f"b{score}", "score": score} for score in (0.5, "3", 4, 5.0)]
    with pytest.raises(
        DataError, match=r"set, row 1: 'score' is 0\.5, and not every pair is a positive; say from which"
    ):
        read_records("pairs", records)
    rows = read_records("pairs", records, min_score=4)
    assert [row.positive.text for row in rows] == ["b4", "b5.0"]
    for label in (2, -1, "entailment", 0.7, [1]):
        with pytest.raises(DataError, match=r"set, row 1: 'label' is .* not every pair is a positive"):
            read_records("pairs", [{"query": "q", "positive": "p", "label": label}])
    with pytest.raises(DataError, match="set, row 1: 'score' is 'high'; expected a number"):
        read_records("pairs", [{"query": "q", "positive": "p", "score": "high"}], min_score=1)


def test_only_exact_names_are_negatives_and_numbers_count(read_records):
    base = {"query": "q", "pos": ["p"], "neg": ["n"]}
    others = {
        "neg_id": ["d77"], "negative_ids": ["4412"], "negative_title": "Lyon", "negative_docid": "D99",
        "negation": "no", "negative_score": 0.4, "neg_scores": [0.1], "negatives_rank": 3, "negative_": "x",
        "negative_1_id": "d1",
    }  # fmt: skip
    (row,) = read_records("triplets", [base | others])
    assert [negative.text for negative in row.negatives] == ["n"]
    numbered = {f"negative_{number}": f"n{number}" for number in (10, 2, 1, 11)} | {"negative": None}
    (row,) = read_records("triplets", [{"query": "q", "positive": "p"} | numbered])
    assert [negative.text for negative in row.negatives] == ["n1", "n2", "n10", "n11"]
    (row,) = read_records("triplets", [{"query": "q", "positive": "p", "hard_negatives": ["a", "p", "b"]}])
    assert [negative.text for negative in row.negatives] == ["a", "b"]


def test_titles_are_text(read_records):
    (row,) = read_records("pairs", [{"query": "q", "positive": {"title": 1984, "text": "A novel."}}])
    assert row.positive == Document("A novel.", "1984")
    for document, message in (
        ({"title": ["T"], "text": "x"}, "'title' is list"),
        ([["a", "b"]], "a document is a list"),
    ):
        with pytest.raises(DataError, match=f"set, row 1: {message}"):
            read_records("pairs", [{"query": "q", "positive": document}])


def test_a_label_for_each_document_of_a_list(read_records):
    """As sentence-transformers' mine_hard_negatives(output_format="labeled-list") writes them."""
    record = {"query": "capital of France", "answer": ["Paris", "Rome", "Berlin"], "labels": [1, 0, 0]}
    (row,) = read_records("pairs", [record | {"negative": "Oslo"}])
    assert row.positive == Document("Paris")
    assert sorted(document.text for document in row.negatives) == ["Berlin", "Oslo", "Rome"]
    rows = read_records("pairs", [record | {"labels": [0.9, 0.2, 0.8]}], min_score=0.8)
    assert [row.positive.text for row in rows] == ["Paris", "Berlin"]
    assert read_records("pairs", [record | {"labels": [0, 0, 0]}]) == []
    with pytest.raises(DataError, match="row 1: 2 values in 'labels' for 3 documents"):
        read_records("pairs", [record | {"labels": [1, 0]}])
    for key, values in (("labels", [1, None, 0]), ("score", [None, None, None])):
        with pytest.raises(DataError, match=f"row 1: (value 1 of )?'{key}' is empty, .* fill it in"):
            read_records("pairs", [{"query": "q", "answer": ["a", "b", "c"], key: values}])


@pytest.mark.parametrize(
    "column",
    ["labels", "Label", "is_positive", "is_correct", "relevant", "rel", "relevance_label"],
)
def test_labels_by_other_names(read_records, column):
    records = [{"query": "q", "text": "right", column: 1}, {"query": "q", "text": "wrong", column: 0}]
    (row,) = read_records("pairs", records)
    assert (row.positive.text, row.negatives) == ("right", (Document("wrong"),))


@pytest.mark.parametrize("labelled", [{"gold_label": "contradiction"}, {"relevance_score": 0.1}, {"rel": "no"}])
def test_labels_that_say_something_else_are_refused(read_records, labelled):
    with pytest.raises(DataError, match="not every pair is a positive"):
        read_records("pairs", [{"sentence1": "a", "sentence2": "b", **labelled}])


@pytest.mark.parametrize(
    "record",
    [
        {"is_impossible": True},
        {"answerable": 0},
        {"answers": {"text": [], "answer_start": []}},
        {"answers": {"text": ["CANNOTANSWER"], "answer_start": [-1]}},
        {"answers": [{"text": "", "answer_start": -1}]},
        {"answers": ""},
    ],
)
@pytest.mark.parametrize("source", ["pairs", "qa"])
def test_questions_that_their_passage_does_not_answer_are_no_pairs(read_records, source, record):
    question = {"question": "q", "context": "about something else"}
    assert read_records(source, [question | record]) == []
    assert len(read_records(source, [question | {"answers": {"text": ["something"], "answer_start": [6]}}])) == 1


@pytest.mark.parametrize("source", ["pairs", "qa"])
@pytest.mark.parametrize("answers", [[], "", None])
def test_a_chosen_positive_needs_no_answer(read_records, source, answers):
    """As DPR's layout has MS MARCO."""
    (row,) = read_records(source, [{"question": "q", "answers": answers, "positive_ctxs": [{"text": "right"}]}])
    assert row.positive == Document("right")
    assert read_records(source, [{"question": "q", "positive": "right", "is_impossible": True}]) == []


@pytest.mark.parametrize(
    "record",
    [
        {"question": "q", "options": ["red", "green", "blue"], "answer": "C"},  # RACE
        {"question": "q", "A": "red", "B": "green", "answer": "B"},  # MMLU
    ],
)
@pytest.mark.parametrize("source", ["pairs", "qa"])
def test_the_letter_of_an_option_is_no_passage(read_records, source, record):
    with pytest.raises(DataError, match=r"'answer' is '[BC]', one of the options in"):
        read_records(source, [record])


@pytest.mark.parametrize("source", ["pairs", "qa"])
def test_pythons_lists_as_text_are_refused(read_records, source):
    with pytest.raises(DataError, match="row 1: a list written as text"):
        read_records(source, [{"query": "q", "passage": "['one text', 'another']"}])
    for answers in ("{'text': [], 'answer_start': []}", "{'text': array([], dtype=object), 'answer_start': array([])}"):
        with pytest.raises(DataError, match=r"row 1: a (dict|object) written as text"):
            read_records(source, [{"query": "q", "passage": "p", "answers": answers}])
    for text in ('["a", null]', '["a", "b"] '):
        with pytest.raises(DataError, match="row 1: a list written as text"):
            read_records(source, [{"query": "q", "passage": text}])
        with pytest.raises(DataError, match="row 1: a list written as text"):
            read_records(source, [{"query": text, "passage": "p"}])
    (row,) = read_records(source, [{"query": "q", "passage": "[1] see the footnote [2]"}])
    assert row.positive.text == "[1] see the footnote [2]"


@pytest.mark.parametrize(("record", "options"), [({"label": None}, {}), ({"score": None}, {"min_score": 0.5})])
def test_a_pair_of_which_nothing_is_said_is_no_positive(read_records, record, options):
    key = next(iter(record))
    with pytest.raises(DataError, match=f"row 1: '{key}' is empty, so whether the pair is a positive is not known"):
        read_records("pairs", [{"query": "q", "positive": "p"} | record], **options)


def test_an_empty_cell_is_no_value(read_records):
    (row,) = read_records("pairs", [{"query": "q", "positive": "", "passage": "right"}])
    assert row.positive.text == "right"


@pytest.mark.parametrize("source", ["pairs", "qa"])
def test_passages_of_dpr(read_records, source):
    record = {
        "question": "q",
        "answer": "Paris",
        "positive_ctxs": [{"title": "T", "text": "right", "score": 1000}],
        "hard_negative_ctxs": [{"title": "U", "text": "wrong"}],
    }
    (row,) = read_records(source, [record])
    assert (row.positive, row.negatives) == (Document("right", "T"), (Document("wrong", "U"),))


def test_no_positive_of_a_record_is_its_negative(read_records):
    record = {"query": "q", "positive": ["p1", "p2"], "negatives": ["P2 ", "n"]}
    first, second = read_records("pairs", [record])
    assert first.negatives == second.negatives == (Document("n"),)
    (row,) = read_records("pairs", [{"query": "q", "positive": {"title": "T", "text": "p"}, "negatives": ["p", "n"]}])
    assert row.negatives == (Document("n"),)
    labelled = [{"query": "q", "positive": text, "label": label} for text, label in (("a", 1), ("b", 1), ("B", 0))]
    assert [row.negatives for row in read_records("pairs", [*labelled, labelled[0] | {"negative": "b"}])] == [()] * 3


def test_a_threshold_for_a_label_or_a_score_must_be_of_one(read_records):
    record = {"query": "q", "positive": "p", "label": 1, "score": 0.2}
    assert len(read_records("pairs", [record])) == 1  # the label says it
    with pytest.raises(DataError, match=r"row 1: 'label' and 'score' both have a value, and min_score is for one of"):
        read_records("pairs", [record], min_score=0.5)
    assert len(read_records("pairs", [record | {"score": None}], min_score=0.5)) == 1
    for name, count in (("label", 1), ("score", 0)):
        fields = RenamedFields(record, {name: name})
        assert len(read_records("pairs", [fields], min_score=0.5)) == count


def renamed(fields, **names):
    return RenamedFields(fields, names)


@pytest.mark.parametrize(
    ("source", "fields", "names", "query", "positive"),
    [
        ("pairs", {"query": "Q", "answer": "short", "body": "B"}, {"document": "body"}, "Q", "B"),
        ("triplets", {"query": "other", "heading": "Q", "positive": "P"}, {"question": "heading"}, "Q", "P"),
        ("qa", {"question": "Q", "context": "C", "para": "P"}, {"passage": "para"}, "Q", "P"),
    ],
)
def test_a_column_that_the_options_name_comes_before_those_that_are_known(
    read_records, source, fields, names, query, positive
):
    (row,) = read_records(source, [renamed(fields, **names)])
    assert (row.query, row.positive.text) == (query, positive)
    (missing,) = names.values()
    empty = {name: value for name, value in fields.items() if name != missing}
    if source != "qa":
        with pytest.raises(DataError, match=f"no column '{missing}'"):
            read_records(source, [renamed(empty, **names)])


@pytest.mark.parametrize("name", ["is_relevant", "relevance"])
def test_a_label_that_the_options_name_comes_before_others(read_records, name):
    records = [
        renamed({"query": "Q", "positive": "P", "label": 1, "human": 0}, **{name: "human"}),
        renamed({"query": "Q", "positive": "R", "label": 0, "human": 1}, **{name: "human"}),
    ]
    (row,) = read_records("pairs", records)
    assert (row.positive.text, [n.text for n in row.negatives]) == ("R", ["P"])


def test_min_score_without_a_label_or_score_is_refused(read_records):
    records = [{"query": "Q", "passage": "a", "rating": 1}, {"query": "Q", "passage": "b", "rating": 5}]
    with pytest.raises(DataError, match=r"no label or score for min_score \(columns: .*rating"):
        read_records("pairs", records, min_score=3)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_rows_with_and_without_a_label_are_not_mixed(read_records, order):
    records = [{"query": "Q", "passage": "a", "label": 1}, {"query": "Q", "passage": "b"}]
    with pytest.raises(DataError, match=r"unlike .*label all rows or none"):
        read_records("pairs", [records[number] for number in order])


def test_records_with_a_label_for_each_document_know_those_next_to_them(read_records):
    records = [
        {"query": "Q", "passage": ["a", "b"], "label": [1, 0]},
        {"query": "Q", "passage": ["b", "c"], "label": [1, 0]},
        {"query": "Q", "passage": ["d"], "label": [0]},
    ]
    rows = read_records("pairs", records)
    assert [(row.positive.text, [n.text for n in row.negatives]) for row in rows] == [
        ("a", ["c", "d"]), ("b", ["c", "d"]),
    ]  # fmt: skip
