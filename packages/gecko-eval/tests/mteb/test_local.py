import json

import pytest

from gecko_core.errors import DataError
from gecko_eval.mteb.local import discover, local_set, recognise
from gecko_eval.mteb.tasks import task_prompt


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


def test_columns_of_two_kinds_are_refused(data_root):
    path = data_root / "similar" / "test.jsonl"
    rows = [json.loads(line) | {"label": 1} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"similar: holds data of STS as well as PairClassification \(test\.jsonl has the columns .*\); leave"
    with pytest.raises(DataError, match=message):
        local_set(path.parent)
    assert {local.name: local.kind for local in discover(data_root)}["similar"] == "unreadable"


def test_two_sets_in_one_folder_are_refused(data_root):
    """The first that was found was scored, and nothing said of the other."""
    folder = data_root / "toy"
    (folder / "test.jsonl").write_text((data_root / "similar" / "test.jsonl").read_text())
    with pytest.raises(DataError, match="toy: holds data of Retrieval as well as STS"):
        local_set(folder)
    (folder / "test.jsonl").write_text("{broken\n")  # of no kind
    assert local_set(folder).kind == "Retrieval"
    (folder / "queries.csv").write_text("query,relevant_id\na,d1\n")
    with pytest.raises(DataError, match=r"toy: holds queries\.csv beside queries\.jsonl and qrels/test\.tsv; remove"):
        local_set(folder)


def test_dropping_queries_makes_other_data(data_root):
    """Its scores stood for the set without the option, which is refused."""
    plain, dropped = (local_set(data_root / "toy", drop_unjudged=drop).fingerprint() for drop in (False, True))
    assert plain != dropped
    of_pairs = {local_set(data_root / "similar", drop_unjudged=drop).fingerprint() for drop in (False, True)}
    assert len(of_pairs) == 1


def test_folders_of_folders_give_one_set_per_language(data_root, beir_folder):
    (data_root / "languages").mkdir()
    beir_folder.rename(data_root / "languages" / "sw")
    assert "languages-sw" in {local.name for local in discover(data_root)}


def test_public_content_becomes_mtebs_own_task_whatever_its_folder_is_called(data_root, make_public):
    make_public(data_root / "similar", "STSBenchmark")
    (data_root / "similar").rename(data_root / "anything")
    local = local_set(data_root / "anything")
    assert (local.name, local.mteb_name) == ("anything", "STSBenchmark")
    task = local.load()
    assert type(task).__name__ == "STSBenchmarkSTS"
    assert len(task.dataset["test"]) == 40
    make_public(data_root / "topics", "AmazonCounterfactualClassification", subset="en")
    task = local_set(data_root / "topics").load()
    assert (task.hf_subsets, list(task.eval_splits), list(task.dataset)) == (["en"], ["test"], ["en"])


def test_the_public_name_goes_with_the_content_and_not_with_the_folder(data_root, make_public, write_jsonl):
    make_public(data_root / "topics", "EmotionClassification")
    (data_root / "topics").rename(data_root / "emotion")
    rows = [{"label": label, "text": text, "extra": 1} for text, label in (("a", "x"), ("b", "y"))]
    for split in ("train", "test"):
        write_jsonl(data_root / "topics" / f"{split}.jsonl", rows)
    names = {local.name: local.mteb_name for local in discover(data_root)}
    assert (names["emotion"], names["topics"]) == ("EmotionClassification", None)
    assert local_set(data_root / "emotion", own=True).mteb_name is None  # --data: the user's own set


def test_a_set_that_is_no_public_task_keeps_its_name_and_gets_the_prompt_of_its_kind(data_root, make_public):
    make_public(data_root / "similar", "STSBenchmark")
    local = local_set(data_root / "toy")
    assert (local.name, local.mteb_name, local.prompt) == ("toy", None, task_prompt("toy", "Retrieval"))
    assert local.prompt.task == "search result"


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("similar/test.jsonl", {"sentence1": "a", "sentence2": "b"}, r"test.jsonl:41: the key 'score' is missing"),
        (
            "same/test.jsonl",
            {"sentence1": "a", "sentence2": "b", "label": "x"},
            r":41: the key 'label' is 'x', which is text; it must be a whole number",
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
