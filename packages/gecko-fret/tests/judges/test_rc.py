import pytest

from gecko_fret.judges import RelevanceClassification


def test_the_value_is_the_expected_label():
    assert RelevanceClassification.value([0, 0, 0, 0, 1]) == 4
    assert RelevanceClassification.value([0.2] * 5) == pytest.approx(2)
