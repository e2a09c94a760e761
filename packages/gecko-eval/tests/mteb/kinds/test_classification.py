import pytest
from datasets import Dataset, DatasetDict

from gecko_core.errors import DataError
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.kinds.classification import with_list_columns
from gecko_eval.mteb.local import local_set
from gecko_eval.mteb.run import run_tasks


def text(label):
    return {"text": "a", "label": label}


def test_columns_are_lists_and_all_else_is_as_before():
    plain = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, 0]})
    data = with_list_columns({"en": DatasetDict({"train": plain})})
    train = data["en"]["train"]
    assert type(train["label"]) is list
    assert train["label"] == [0, 1, 0]
    assert train[1] == {"text": "b", "label": 1}
    assert train[:2]["text"] == ["a", "b"]
    assert train.select([2, 1])["text"][:] == ["c", "b"]
    assert isinstance(data["en"], DatasetDict)
    assert isinstance(train, Dataset)
    assert type(plain) is Dataset  # whose column is a list in datasets 3, and no longer in 4


def test_what_is_no_data_set_is_left_alone():
    assert with_list_columns({"a": {"b": None}}) == {"a": {"b": None}}


def test_a_classifier_needs_two_classes_to_learn(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "train.jsonl", [text("x"), text("x")])
    write_jsonl(tmp_path / "test.jsonl", [text("x")])
    with pytest.raises(DataError, match=r"train\.jsonl: all 2 rows have the label 'x'"):
        local_set(tmp_path).load()


def test_some_test_labels_that_nobody_can_have_learned_are_noted(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "train.jsonl", [text("x"), text("y")])
    write_jsonl(tmp_path / "test.jsonl", [text("x"), text("y "), text("y")])
    (note,) = local_set(tmp_path).load().notes
    assert note.startswith("1 of 3 texts of test.jsonl have a label that train.jsonl has not (the first is 'y ');")
    write_jsonl(tmp_path / "test.jsonl", [text("x"), text("y")])
    assert local_set(tmp_path).load().notes == ()


def test_test_labels_missing_from_training_are_refused(tmp_path, write_jsonl):
    write_jsonl(tmp_path / "train.jsonl", [text("1"), text("2")])
    write_jsonl(tmp_path / "test.jsonl", [text(1), text(2)])
    with pytest.raises(DataError, match=r"no label of test\.jsonl stands in train\.jsonl"):
        local_set(tmp_path).load()


@pytest.mark.parametrize(("trained", "tested"), [((2, 3), (2, 3)), (("a", "b", "c", "d"), ("c", "d"))])
def test_two_classes_of_the_test_may_have_any_numbers(embedder, tmp_path, write_jsonl, trained, tested):
    """mteb asks scikit-learn for the average precision of class 1, which there must be."""
    for split, labels in (("train", trained), ("test", tested)):
        rows = [{"text": f"word{label} {i}", "label": label} for i in range(40) for label in labels]
        write_jsonl(tmp_path / "two" / f"{split}.jsonl", rows)
    entries = entries_for(["two"], tmp_path)
    results = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"][entries[0].name]
    assert results["scores"]["64"]["main"] > 0.9


@pytest.mark.parametrize("order", [(), ("yes", "no")])
def test_two_named_classes_are_numbered_and_scored(embedder, tmp_path, write_jsonl, make_public, order):
    rows = [{"text": f"{label} {i}", "label": label} for i in range(40) for label in ("no", "yes")]
    for split in ("train", "test"):
        write_jsonl(tmp_path / "two" / f"{split}.jsonl", rows)
    if order:
        make_public(tmp_path / "two", "AmazonCounterfactualClassification", subset="en", labels=order)
    task = local_set(tmp_path / "two").load()
    data = task.dataset.get("en", task.dataset)["test"]
    numbers = {text.split()[0]: number for text, number in zip(data["text"], data["label"], strict=True)}
    assert numbers == ({"yes": 0, "no": 1} if order else {"no": 0, "yes": 1})
    entries = entries_for(["two"], tmp_path)
    results = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"][entries[0].name]
    assert results["scores"]["64"]["main"] > 0.9
