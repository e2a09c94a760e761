import json

import pytest

from gecko_core.errors import DataError
from gecko_eval.mteb.local import local_set


def pair(score):
    return {"sentence1": "a", "sentence2": "b", "score": score}


def labelled_pair(label):
    return {"sentence1": "a", "sentence2": "b", "label": label}


def text(label):
    return {"text": "a", "label": label}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([pair(1.0), pair(float("nan"))], r"test\.jsonl:2: the key 'score' is empty or NaN"),
        ([pair(1.0), pair(True)], r"test\.jsonl:2: the key 'score' is of type bool; it must be a number"),
        ([pair(1.0), pair(1.0)], r"test\.jsonl: all 2 rows have the score 1\.0; at least two are needed"),
        ([pair(1.0)], r"all 1 rows have the score"),
        ([labelled_pair(0), labelled_pair(2)], r"test\.jsonl:2: the label is 2; pairs are 1 .* or 0"),
        ([labelled_pair(1), labelled_pair(1)], r"all 2 rows have the label 1"),
        ([text("x"), text("x")], r"all 2 rows have the label 'x'"),
        ([text("x"), text("y")], r"each of the 2 texts has a label of its own"),
        ([text("x"), text(1.5)], r"test\.jsonl:2: the key 'label' is of type float; it must be text or a whole number"),
        ([text("x"), text("y"), text(3)], r"test\.jsonl:3: the label is of another type than in .*test\.jsonl:1"),
    ],
)
def test_data_that_says_nothing_is_refused(tmp_path, rows, message):
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message) as e:
        local_set(tmp_path).load()
    assert "\n" not in str(e.value)
