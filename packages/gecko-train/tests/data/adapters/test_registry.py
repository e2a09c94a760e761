import pytest

from gecko_core.errors import DataError


@pytest.mark.parametrize(
    ("source", "records", "message"),
    [
        ("triplets", [{"query": "q"}], "set, row 1: no 'positive' .columns: query."),
        ("triplets", [{"query": " ", "positive": "p"}], "set, row 1: 'query' is empty"),
        ("snli", [{"premise": "p", "hypothesis": "h", "label": "maybe"}], "set, row 1: label 'maybe'"),
        (
            "classification",
            [{"text": "a", "label": 1}, {"text": "b", "label": 1}],
            "row 2, the last one: .*the one label '1'",
        ),
        ("qa", [{"question": "q"}], "set, row 1: no context, passage, snippets, contexts, answer"),
    ],
)
def test_what_does_not_fit_names_the_row_and_the_cure(read_records, source, records, message):
    with pytest.raises(DataError, match=message):
        read_records(source, records)
