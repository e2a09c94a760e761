import pytest

from gecko_core.errors import DataError


def question(number, **fields):
    return {"question": f"q{number}", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": number} | fields


def right(rows):
    return [row.positive.text for row in rows]


def test_medmcqa_in_both_layouts(read_records):
    records = [{"question": f"q{index}", "options": ["a", "b", "c", "d"], "answer_index": index} for index in (2, 0)]
    release, hub = read_records("medmcqa", records), read_records("medmcqa", [question(2), question(0), question(-1)])
    assert release == hub
    assert right(hub) == ["c", "a"]
    assert [negative.text for negative in hub[0].negatives] == ["a", "b", "d"]


@pytest.mark.parametrize("kind", [int, str, float])
def test_where_numbers_count_from_shows_in_the_set(read_records, kind):
    from_one = [question(kind(number)) for number in (1, 3, 4)]
    assert right(read_records("medmcqa", from_one)) == ["a", "c", "d"]
    from_zero = [question(kind(number)) for number in (1, 3, 0)]
    assert right(read_records("medmcqa", from_zero)) == ["b", "d", "a"]


def test_where_it_does_not_show_it_must_be_said(read_records):
    records = [question(1), question(2)]
    with pytest.raises(DataError, match=r"set, row 1: whether .* count from 0 .* or from 1 .* \(options: \{count_from"):
        read_records("medmcqa", records)
    assert right(read_records("medmcqa", records, count_from=1)) == ["a", "b"]
    assert right(read_records("medmcqa", records, count_from=0)) == ["b", "c"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (question(4), "the right option is the last counted from 1, in set, row 1 the first counted from 0"),
        (question(7), "the right option is number 7 of 4, counted from 0"),
        (question("b"), "'cop' is 'b'; expected the number"),
        (question("--1"), "'cop' is '--1'; expected the number"),
        (question(1.5), r"'cop' is 1\.5; expected the number"),
        (question(1, opb=["x"]), "a document is a list"),
        ({"question": "q", "options": {"A": "x", "B": "y"}, "answer_index": 1}, "'options' is a dict"),
    ],
)
def test_what_does_not_fit_is_refused(read_records, record, message):
    with pytest.raises(DataError, match=f"set, row 2: {message}"):
        read_records("medmcqa", [question(0), record])


def test_columns_of_another_set_are_told(read_records):
    with pytest.raises(DataError, match=r"row 1: no opa, opb, opc, opd and no options; name them in the set's options"):
        read_records("medmcqa", [{"question": "q", "choices": {"text": ["a"]}, "answerKey": "A"}])
