import numpy as np
import pytest

from gecko_fret.judges import RelevanceClassification


def test_the_value_is_the_expected_label():
    assert RelevanceClassification.value([0, 0, 0, 0, 1]) == 4
    assert RelevanceClassification.value([0.2] * 5) == pytest.approx(2)


def test_calibrated_labels_are_divided_by_those_of_an_empty_query(judge, pairs, spy_llm):
    asked, empty = np.array([0.1, 0.2, 0.2, 0.1, 0.4]), np.array([0.05, 0.05, 0.1, 0.1, 0.7])
    llm = spy_llm(lambda request: empty if "Query: N/A" in request.context else asked)
    values, _ = judge("rc", pairs("sour"), llm=llm)
    expected = asked / empty / (asked / empty).sum()
    np.testing.assert_allclose(values, [expected] * 4, rtol=1e-12)
    assert RelevanceClassification.value(asked) > 2 > RelevanceClassification.value(values[0])
    raw, _ = judge("rc", pairs("sour"), {"calibrate": False}, llm=llm)
    np.testing.assert_allclose(raw, [asked] * 4)
