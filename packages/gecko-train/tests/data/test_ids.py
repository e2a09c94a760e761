import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gecko_train.data.ids import apart_by_label, have_common


def test_a_text_of_one_label_is_another_id_as_a_passage():
    queries, positives = np.array([1, 2, 3, 3, 5, 6]), np.array([2, 1, 2, 4, 6, 7])
    labels = np.array([0, 0, 0, 1, -1, -1])
    # 1 and 2 are of label 0 alone, 4 of label 1; 6 and 7 of none, so that 6 stays one text on both sides.
    assert apart_by_label(queries, positives, labels).tolist() == [~2, ~1, ~2, ~4, 6, 7]
    labels[2] = 2
    assert apart_by_label(queries, positives, labels).tolist() == [2, ~1, 2, ~4, 6, 7]


@given(st.lists(st.integers(0, 2**62)), st.lists(st.integers(0, 2**62)))
def test_common_ids_are_found(first, second):
    a, b = np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
    assert have_common(a, b) == bool(set(first) & set(second))


@pytest.mark.parametrize("shared", [0, 1])
def test_one_common_id_among_many(shared):
    ids = np.random.default_rng(0).permutation(2**20)
    assert have_common(ids[: 2**19], ids[2**19 - shared :]) is bool(shared)
