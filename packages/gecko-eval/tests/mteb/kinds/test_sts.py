import pytest

from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.run import run_tasks


def test_scores_in_a_narrow_range_are_a_task(tmp_path, write_jsonl, embedder):
    rows = [{"sentence1": "amber birch", "sentence2": two, "score": s} for two, s in (("amber", 1.2), ("cedar", 1.1))]
    write_jsonl(tmp_path / "narrow" / "test.jsonl", [*rows, {**rows[0], "sentence2": "amber birch", "score": 1.3}])
    found = run_tasks(embedder, entries_for(["narrow"], tmp_path), [64], tmp_path / "out", say=lambda _: None)
    assert found["tasks"]["narrow"]["scores"]["64"]["main"] == pytest.approx(1.0)


def test_a_score_of_hundreds_of_digits_is_told_and_the_other_sets_are_run(tmp_path, write_jsonl, embedder):
    rows = [{"sentence1": "amber", "sentence2": two, "score": s} for two, s in (("birch", 1), ("cedar", 2))]
    write_jsonl(tmp_path / "sound" / "test.jsonl", rows)
    write_jsonl(tmp_path / "huge" / "test.jsonl", [{**rows[0], "score": 10**400}, rows[1]])
    said = []
    found = run_tasks(embedder, entries_for(["huge", "sound"], tmp_path), [64], tmp_path / "out", say=said.append)
    assert "main" in found["tasks"]["sound"]["scores"]["64"]
    assert any("huge" in line and "test.jsonl:1: the score is too large" in line for line in said)
