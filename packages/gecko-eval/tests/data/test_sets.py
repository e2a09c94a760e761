import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_eval.data.sets import RetrievalSet, StsSet


def build(**change):
    fields = {
        "name": "toy",
        "query_ids": ["q1"],
        "queries": ["x"],
        "doc_ids": ["a", "b"],
        "docs": ["x", "y"],
        "titles": None,
        "qrels": {"q1": {"a": 1}},
    }
    return RetrievalSet(**{**fields, **change})


def test_judgements_follow_the_order_of_queries():
    data = build(query_ids=["q2", "q1"], queries=["x", "y"], qrels={"q1": {"a": 1}, "q2": {"b": 2}})
    assert data.judgements == [{"b": 2}, {"a": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qrels": {"q1": {"z": 1}}}, "toy: qrels of query 'q1' name the document 'z', which is not in the corpus"),
        ({"qrels": {"q9": {"a": 1}}}, "toy: qrels name the query 'q9'"),
        ({"qrels": {"q1": {"a": 2**31 - 1}}}, "toy: qrels of query 'q1' have the grade 2147483647; grades are whole"),
        ({"qrels": {"q1": {"a": 0.5}}}, "toy: qrels of query 'q1' have the grade 0.5"),
        ({"qrels": None}, "toy: qrels must map query ids to grades, not be a NoneType"),
        ({"qrels": {"q1": ["a"]}}, "toy: qrels of query 'q1' must map document ids to grades, not be a list"),
        ({"qrels": {}}, "toy: 1 of 1 queries have no judgement"),
        ({"doc_ids": ["a", "a"]}, "the document id 'a' occurs twice"),
        ({"queries": []}, "1 query ids but 0 query texts"),
        ({"titles": ["t"]}, "1 titles but 2 documents"),
        ({"doc_ids": [], "docs": []}, "need both"),
    ],
)
def test_mistakes_are_named_in_one_line(change, message):
    with pytest.raises(DataError, match=message) as e:
        build(**change)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"docs": "xy"}, "toy: documents must come as a list of str; wrap the single document"),
        ({"queries": {"x": 1}}, "toy: queries came as a dict"),
        ({"doc_ids": ["a", 1]}, "toy: document id 1 is int, not str"),
        ({"query_ids": [None]}, "toy: query id 0 is NoneType, not str"),
        ({"titles": ["t", 0.5]}, "toy: title 1 is float, not str"),
    ],
)
def test_other_things_than_lists_of_str_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        build(**change)
    with pytest.raises(DataError, match="s: sentences must come as a list of str"):
        StsSet("s", "ab", ["a", "b"], [1.0, 2.0])
    assert build(titles=["t", None]).titles == ["t", ""]


def test_columns_count_by_place_whatever_their_labels():
    pandas = pytest.importorskip("pandas")
    columns = {"doc_ids": ["a", "b", "c"], "docs": ["x", "y", "z"]}
    shuffled = {name: pandas.Series(values, index=[2, 0, 1]) for name, values in columns.items()}
    data = build(**shuffled)
    assert (data.doc_ids, data.docs) == (columns["doc_ids"], columns["docs"])
    assert data.fingerprint() == build(**columns).fingerprint()
    arrays = {name: np.array(values) for name, values in columns.items()}
    assert build(**arrays).fingerprint() == data.fingerprint()


def test_a_single_pair_is_refused():
    with pytest.raises(DataError, match=r"s: need at least two pairs with scores, found 1, 1 and 1"):
        StsSet("s", ["a"], ["b"], [1.0])


def test_the_fingerprint_changes_with_the_order_in_which_queries_are_scored():
    """Values of single queries are kept in that order, and compared where fingerprints are equal."""
    two = {"query_ids": ["q1", "q2"], "queries": ["x", "y"]}
    data = build(**two, qrels={"q1": {"a": 1, "b": 0}, "q2": {"b": 2}})
    resorted = build(**two, qrels={query: data.qrels[query] for query in ("q2", "q1")})
    assert resorted.fingerprint() != data.fingerprint()
    inner = build(**two, qrels={query: dict(reversed(judged.items())) for query, judged in data.qrels.items()})
    assert inner.fingerprint() == data.fingerprint()
