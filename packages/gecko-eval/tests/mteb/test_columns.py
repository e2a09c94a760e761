from datasets import Dataset, DatasetDict

from gecko_eval.mteb.columns import with_list_columns


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
    assert type(plain["label"]) is not list


def test_what_is_no_data_set_is_left_alone():
    assert with_list_columns({"a": {"b": None}}) == {"a": {"b": None}}
