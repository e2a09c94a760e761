from gecko_eval.report.contamination import overlaps, training_sets

RECORD = {
    "recipe": {
        "sources": [{"name": "banking77", "path": "data/fever.jsonl.gz"}, {"name": "hotpotqa_sample"}],
        "steps": 100,
    },
    "datasets": {"snli": {"rows": 10}, "nq": {"rows": 5}},
    "student": "scifact-like",
}


def test_names_are_found_where_a_record_lists_sources():
    names = training_sets(RECORD)
    assert {"banking77", "data/fever.jsonl.gz", "hotpotqa_sample", "snli", "nq"} <= set(names)
    assert "scifact-like" not in names


def test_the_record_of_gecko_train():
    record = {
        "recipe": "nq",
        "stages": {
            "corpus": {"name": "python-docs", "path": "data/quora", "note": "scifact: 10 passages", "queries": 3},
            "prefinetune": {"sets": {"title-body": 1036}, "objective": {"temperature": 0.02}},
            "fret": {"rows": 10, "note": "10 rows", "counts": {"passages": 3}},
            "finetune": {"sets": {"fret": 10, "hotpotqa": 5, "snli": 7}, "rows": 20},
        },
    }
    names = training_sets(record)
    assert names == ["data/quora", "fret", "hotpotqa", "python-docs", "snli", "title-body"]
    assert set(overlaps(record, ["HotpotQA", "NQ", "QuoraRetrieval", "SciFact"])) == {"HotpotQA", "QuoraRetrieval"}


def test_overlap_is_by_data_not_by_spelling():
    tasks = [
        "Banking77Classification",
        "FEVER",
        "ClimateFEVER",
        "HotpotQA",
        "NQ",
        "SciFact",
        "STS12",
        "hotpotqa_sample",
    ]
    found = overlaps(RECORD, tasks)
    assert set(found) == {"Banking77Classification", "FEVER", "ClimateFEVER", "HotpotQA", "NQ", "hotpotqa_sample"}
    assert found["Banking77Classification"] == ["banking77"]


def test_no_record_no_claim():
    assert overlaps({}, ["SciFact"]) == {}
