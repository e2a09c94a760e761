import numpy as np
import pytest

from gecko_core.errors import DataError
from gecko_core.sequences import check_list


@pytest.mark.parametrize("texts", [{"a": "text"}, {"text"}, frozenset(["text"]), "text", b"text"])
def test_what_iterates_over_something_else_than_texts_is_refused(texts):
    with pytest.raises(DataError, match=r"queries (must come as a list|came as a)"):
        check_list(texts, "query")
    for no_texts in (None, 5, True):
        with pytest.raises(DataError, match=f"queries must come as a list of str, not as {type(no_texts).__name__}"):
            check_list(no_texts, "query")
    for single in (np.array("text"), list, str):
        with pytest.raises(DataError, match=f"queries must come as a list of str, not as {type(single).__name__}"):
            check_list(single, "query")
    check_list(np.array(["text"]))
    check_list({"a": "text"}.values())
    check_list(iter(["text"]))
