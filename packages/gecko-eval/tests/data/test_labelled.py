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
        ([pair(1.0), pair(True)], r"test\.jsonl:2: the key 'score' is of the wrong type"),
        ([pair(1.0), pair(1.0)], r"test\.jsonl: all 2 rows have the score 1\.0; at least two are needed"),
        ([pair(1.0)], r"all 1 rows have the score"),
        ([labelled_pair(0), labelled_pair(2)], r"test\.jsonl:2: the label is 2; pairs are 1 .* or 0"),
        ([labelled_pair(1), labelled_pair(1)], r"all 2 rows have the label 1"),
        ([text("x"), text("x")], r"all 2 rows have the label 'x'"),
        ([text("x"), text("y")], r"each of the 2 texts has a label of its own"),
        ([text("x"), text("y"), text(3)], r"test\.jsonl:3: the label is of another type than in .*test\.jsonl:1"),
    ],
)
def test_data_that_says_nothing_is_refused(tmp_path, rows, message):
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message) as e:
        local_set(tmp_path).load()
    assert "\n" not in str(e.value)


def test_a_classifier_needs_two_classes_to_learn(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "train.jsonl", [text("x"), text("x")])
    write_jsonl(tmp_path / "test.jsonl", [text("x")])
    with pytest.raises(DataError, match=r"train\.jsonl: all 2 rows have the label 'x'"):
        local_set(tmp_path).load()


def test_scores_in_a_narrow_range_are_a_task(tmp_path, write_jsonl, embedder):
    from gecko_eval.mteb.run import entries_for, run_tasks

    rows = [{"sentence1": "amber birch", "sentence2": two, "score": s} for two, s in (("amber", 1.2), ("cedar", 1.1))]
    write_jsonl(tmp_path / "narrow" / "test.jsonl", [*rows, {**rows[0], "sentence2": "amber birch", "score": 1.3}])
    found = run_tasks(embedder, entries_for(["narrow"], tmp_path), [64], tmp_path / "out", say=lambda _: None)
    assert found["tasks"]["narrow"]["scores"]["64"]["main"] == pytest.approx(1.0)


def test_labels_that_nobody_could_learn_are_refused(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "train.jsonl", [text("1"), text("2")])
    write_jsonl(tmp_path / "test.jsonl", [text(1), text(2)])
    with pytest.raises(DataError, match=r"no label of test\.jsonl stands in train\.jsonl"):
        local_set(tmp_path).load()
