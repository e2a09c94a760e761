import numpy as np
import pytest

from gecko_core.numbers import is_whole


@pytest.mark.parametrize(
    ("value", "whole"),
    [(1, True), (np.int64(9), True), (0, False), (10, False), (True, False), (1.0, False), ("1", False), (None, False)],
)
def test_whole_numbers(value, whole):
    assert is_whole(value, 1, 9) is whole
