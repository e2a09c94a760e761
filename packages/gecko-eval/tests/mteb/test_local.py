import json

import pytest

from gecko_core.errors import DataError
from gecko_eval.mteb.local import discover, local_set, recognise
from gecko_eval.mteb.run import entries_for, run_tasks


def test_every_kind_is_recognised(data_root):
    kinds = {s.name: s.kind for s in discover(data_root)}
    assert kinds == {
        "groups": "Clustering",
        "same": "PairClassification",
        "similar": "STS",
        "topics": "Classification",
        "toy": "Retrieval",
    }
    assert recognise(data_root / "only_training") is None


def test_folders_of_folders_give_one_set_per_language(data_root, beir_folder):
    (data_root / "tydiqa").mkdir()
    beir_folder.rename(data_root / "tydiqa" / "sw")
    found = {s.name: s for s in discover(data_root)}
    assert found["tydiqa-sw"].prompt.task == "question answering"


def test_retrieval_data_reaches_mteb_whole(beir_folder):
    task = local_set(beir_folder).load()
    split = task.dataset["default"]["test"]
    assert (len(split["corpus"]), len(split["queries"])) == (60, 12)
    assert split["corpus"][1]["title"] == "note 1"
    assert split["relevant_docs"]["q1"] == {"d5": 2, "d6": 1, "d7": 0}
    assert task.metadata.main_score == "ndcg_at_10"


def test_known_folders_become_mtebs_own_task(data_root):
    (data_root / "similar").rename(data_root / "stsb")
    found = local_set(data_root / "stsb")
    assert found.mteb_name == "STSBenchmark"
    task = found.load()
    assert type(task).__name__ == "STSBenchmarkSTS"
    assert len(task.dataset["test"]) == 40
    (data_root / "topics").rename(data_root / "amazon_counterfactual")
    task = local_set(data_root / "amazon_counterfactual").load()
    assert (task.hf_subsets, list(task.eval_splits), list(task.dataset)) == (["en"], ["test"], ["en"])


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("similar/test.jsonl", {"sentence1": "a", "sentence2": "b"}, r"test.jsonl:41: the key 'score' is missing"),
        (
            "same/test.jsonl",
            {"sentence1": "a", "sentence2": "b", "label": "x"},
            r":41: the key 'label' is of the wrong",
        ),
        ("topics/train.jsonl", {"text": None, "label": "x"}, r"train.jsonl:61: the key 'text' is empty or NaN"),
    ],
)
def test_bad_rows_are_named(data_root, file, row, message):
    path = data_root / file
    path.write_text(path.read_text() + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        local_set(path.parent).load()


def test_folders_without_data_are_named(data_root, tmp_path):
    with pytest.raises(DataError, match="only_training: no evaluation data found"):
        local_set(data_root / "only_training")
    with pytest.raises(DataError, match="absent: no such folder"):
        local_set(tmp_path / "absent")
    with pytest.raises(DataError, match="no such folder"):
        discover(tmp_path / "absent")


@pytest.mark.parametrize(
    ("folder", "labels", "numbers"),
    [
        ("two", ["no", "yes"], {"no": 0, "yes": 1}),
        (
            "amazon_counterfactual",
            ["counterfactual", "not-counterfactual"],
            {"counterfactual": 1, "not-counterfactual": 0},
        ),
    ],
)
def test_two_named_classes_are_numbered_and_scored(embedder, tmp_path, write_jsonl, folder, labels, numbers):
    rows = [{"text": f"{label} {i}", "label": label} for i in range(40) for label in labels]
    for split in ("train", "test"):
        write_jsonl(tmp_path / folder / f"{split}.jsonl", rows)
    task = local_set(tmp_path / folder).load()
    data = task.dataset.get("en", task.dataset)["test"]
    assert {t.split()[0]: n for t, n in zip(data["text"], data["label"], strict=True)} == numbers
    entries = entries_for([folder], tmp_path)
    found = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"][entries[0].name]
    assert found["scores"]["64"]["main"] > 0.9
