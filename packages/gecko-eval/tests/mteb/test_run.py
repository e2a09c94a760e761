import errno
import json
from pathlib import Path

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_eval.baselines import Bm25
from gecko_eval.data.beir import load_beir
from gecko_eval.metrics import average_precision, spearman
from gecko_eval.mteb.encoder import GeckoEmbedder
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.local import from_retrieval_set
from gecko_eval.mteb.run import run_tasks
from gecko_eval.report.compare import compare_results
from gecko_eval.results import load_items, load_results, name_apart


def test_a_run_scores_every_task_at_every_dim_and_keeps_the_items(embedder, data_root, tmp_path):
    out = tmp_path / "out"
    run_tasks(embedder, entries_for(["local"], data_root), [64, 16], out, say=lambda _: None)
    results = load_results(out)
    assert results["dims"] == [64, 16]
    tasks = results["tasks"]
    assert {name: sorted(task["scores"]) for name, task in tasks.items()} == {
        key: ["16", "64"] for key in ["groups", "same", "similar", "topics", "toy"]
    }
    for dim in ("64", "16"):
        for name in ("toy", "topics"):
            items = load_items(results, name)[f"{dim}/test/default"]
            assert items.mean() == pytest.approx(tasks[name]["scores"][dim]["main"], abs=1e-5)
        similar, same = load_items(results, "similar"), load_items(results, "same")
        correlation = spearman(similar[f"{dim}/test/default"], similar["gold/test/default"])
        assert correlation == pytest.approx(tasks["similar"]["scores"][dim]["main"], abs=1e-6)
        precision = average_precision(same[f"{dim}/test/default"], same["gold/test/default"])
        assert precision == pytest.approx(tasks["same"]["scores"][dim]["main"], abs=1e-6)


def test_files_of_mteb_appear_whole_or_not_at_all(embedder, data_root, tmp_path, monkeypatch):
    """mteb writes them in place."""
    from gecko_eval.mteb import run

    def full(source, target):
        Path(target).write_bytes(b"{")
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(run.shutil, "copyfile", full)
        results = run_tasks(embedder, entries_for(["toy"], data_root), [64], out, say=lambda _: None)
    assert "No space left" in results["tasks"]["toy"]["error"]
    assert str(out / "mteb") in results["tasks"]["toy"]["error"]
    assert not [path for path in (out / "mteb").rglob("*") if path.is_file()]
    results = run_tasks(embedder, entries_for(["toy"], data_root), [64], out, say=lambda _: None)
    assert "scores" in results["tasks"]["toy"]
    assert [path.name for path in (out / "mteb").rglob("toy.json")] == ["toy.json"]


def test_ids_that_no_ranking_can_be_written_with_are_told_before_encoding(embedder, beir_folder, tmp_path, monkeypatch):
    for name in ("corpus.jsonl", "qrels/test.tsv"):
        path = beir_folder / name
        path.write_text(path.read_text().replace('"d1"', '"d 1"').replace("\td1\t", "\td 1\t"))
    own = from_retrieval_set(load_beir(beir_folder, unjudged="drop"), beir_folder)
    monkeypatch.setattr(embedder, "embed", None)
    entries, quiet = entries_for([], None, [own]), {"say": lambda _: None, "rankings": True}
    outcome = run_tasks(embedder, entries, [64], tmp_path / "out", **quiet)["tasks"]["toy"]
    assert outcome["error"] == "toy: the id 'd 1' holds white space and cannot stand in a TREC run file"


def test_what_a_reader_of_a_score_should_know_is_said_and_kept(embedder, beir_folder, tmp_path):
    queries, corpus = (beir_folder / name for name in ("queries.jsonl", "corpus.jsonl"))
    corpus.write_text(corpus.read_text() + queries.read_text())
    said = []
    sets = [from_retrieval_set(load_beir(beir_folder), beir_folder)]
    results = run_tasks(embedder, entries_for([], None, sets), [64], tmp_path / "out", say=said.append)
    assert "a query's own document is left out of its ranking" in said[1]
    assert results["tasks"]["toy"]["notes"] == [said[1].removeprefix("note: toy: ")]


def test_a_failing_task_is_one_line_and_the_rest_still_run(embedder, data_root, tmp_path):
    path = data_root / "toy" / "qrels" / "test.tsv"
    path.write_text(path.read_text() + "q1\tnowhere\t1\n")
    said = []
    results = run_tasks(embedder, entries_for(["toy", "similar"], data_root), [64], tmp_path / "out", say=said.append)
    assert "the document 'nowhere' is not in corpus.jsonl" in results["tasks"]["toy"]["error"]
    assert "64" in results["tasks"]["similar"]["scores"]
    assert len(said) == 2
    assert all("\n" not in line for line in said)


def test_a_task_that_needs_the_network_says_how_to_do_without(embedder, data_root, tmp_path):
    entry = entries_for(["NFCorpus"], data_root)[0]

    def unreachable():
        raise ConnectionError("no route\nto host")

    broken = type(entry)(entry.name, entry.kind, "mteb", entry.prompt, unreachable, entry.data)
    results = run_tasks(embedder, [broken], [64], tmp_path / "out", say=lambda _: None)
    assert "run `gecko-eval prefetch NFCorpus`" in results["tasks"]["NFCorpus"]["error"]
    assert "\n" not in results["tasks"]["NFCorpus"]["error"]


def test_a_finished_task_is_not_run_again(embedder, word_model, data_root, tmp_path):
    entries = entries_for(["similar"], data_root)
    first = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)
    encoded = word_model.texts_encoded
    said = []
    again = run_tasks(embedder, entries, [64], tmp_path / "out", say=said.append)
    assert word_model.texts_encoded == encoded
    assert "done before" in said[0]
    assert again["tasks"] == first["tasks"]
    run_tasks(embedder, entries, [64], tmp_path / "out", overwrite=True, say=lambda _: None)
    assert word_model.texts_encoded > encoded


def test_what_mteb_cannot_compute_is_left_out(embedder, data_root, tmp_path):
    """Its nAUCs of so few queries are NaN, which is no JSON."""
    run_tasks(embedder, entries_for(["toy"], data_root), [64], tmp_path / "out", say=lambda _: None)
    text = (tmp_path / "out" / "results.json").read_text()
    assert "ndcg_at_10" in text
    assert "NaN" not in text


def test_results_of_other_weights_are_not_overwritten(embedder, make_word_model, data_root, tmp_path):
    entries = entries_for(["similar"], data_root)
    run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)
    before = (tmp_path / "out" / "results.json").read_bytes()
    other = GeckoEmbedder(make_word_model("other"), "words")
    with pytest.raises(ConfigError, match="holds results of words with other weights"):
        run_tasks(other, entries, [64], tmp_path / "out", say=lambda _: None)
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_bm25_runs_beside_models_and_compares_with_them(embedder, data_root, tmp_path):
    entries = entries_for(["toy", "similar"], data_root)
    run_tasks(embedder, entries, [64, 16], tmp_path / "words", say=lambda _: None)
    results = run_tasks(Bm25(), entries, [0], tmp_path / "bm25", say=lambda _: None)
    assert results["tasks"]["similar"]["skipped"] == "bm25 ranks documents and cannot do STS"
    rows = compare_results(load_results(tmp_path / "words"), load_results(tmp_path / "bm25"), 16)
    assert [(row.task, row.note) for row in rows] == [("toy", "12 queries")]
    found = rows[0].comparison
    assert found.wins + found.losses + found.ties == 12
    assert (found.mean_a, found.mean_b) == pytest.approx((rows[0].score_a, rows[0].score_b), abs=1e-5)
    with pytest.raises(DataError, match="no task is scored at 32 dims"):
        compare_results(load_results(tmp_path / "words"), load_results(tmp_path / "bm25"), 32)


def test_comparing_dims_of_one_model_covers_every_kind(embedder, make_word_model, data_root, tmp_path):
    entries = entries_for(["local"], data_root)
    run_tasks(embedder, entries, [64], tmp_path / "a", say=lambda _: None)
    run_tasks(GeckoEmbedder(make_word_model("b"), "b"), entries, [64], tmp_path / "b", say=lambda _: None)
    rows = compare_results(load_results(tmp_path / "a"), load_results(tmp_path / "b"), samples=300)
    assert {row.task: row.note for row in rows} == {
        "groups": "10 draws",
        "same": "40 pairs",
        "similar": "40 pairs",
        "topics": "15 texts",
        "toy": "12 queries",
    }
    for row in rows:
        assert row.comparison.low <= row.comparison.difference <= row.comparison.high
        assert row.comparison.difference == pytest.approx(row.score_a - row.score_b, abs=1e-5)


def test_changed_data_is_run_again_and_not_compared_with_the_old(embedder, data_root, tmp_path):
    entries = entries_for(["similar", "toy"], data_root)
    run_tasks(embedder, entries, [64], tmp_path / "before", say=lambda _: None)
    run_tasks(embedder, entries, [64], tmp_path / "after", say=lambda _: None)
    path = data_root / "similar" / "test.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:20]) + "\n")
    said = []
    run_tasks(embedder, entries_for(["similar", "toy"], data_root), [64], tmp_path / "after", say=said.append)
    assert ["done before" in line for line in said] == [False, True]
    rows = compare_results(load_results(tmp_path / "after"), load_results(tmp_path / "before"))
    assert rows[0].comparison is None
    assert rows[0].verdict == "no interval: run on different data"
    assert rows[1].verdict == "not significant"


def test_own_data_is_run_again_when_a_grade_changes(embedder, beir_folder, tmp_path):
    def go():
        said = []
        own = from_retrieval_set(load_beir(beir_folder), beir_folder)
        run_tasks(embedder, entries_for([], None, [own]), [64], tmp_path / "out", say=said.append)
        return "done before" in said[0]

    assert [go(), go()] == [False, True]
    path = beir_folder / "qrels" / "test.tsv"
    path.write_text(path.read_text().replace("q1\td5\t2", "q1\td5\t1"))
    assert [go(), go()] == [False, True]


def test_a_broken_folder_does_not_keep_the_others_from_running(embedder, data_root, tmp_path):
    (data_root / "similar" / "test.jsonl").write_text("{broken\n")
    results = run_tasks(embedder, entries_for(["local"], data_root), [64], tmp_path / "out", say=lambda _: None)
    assert "test.jsonl:1: not JSON" in results["tasks"]["similar"]["error"]
    assert sum("error" in task for task in results["tasks"].values()) == 1


def test_weights_that_give_nan_fail_in_one_line(embedder, data_root, tmp_path):
    embedder.embed = lambda texts: np.full((len(texts), 64), np.nan)
    results = run_tasks(embedder, entries_for(["similar"], data_root), [64], tmp_path / "out", say=lambda _: None)
    assert "the model gives NaN or infinity" in results["tasks"]["similar"]["error"]
    assert "\n" not in results["tasks"]["similar"]["error"]


@pytest.mark.parametrize("content", ["{broken", json.dumps([1]), json.dumps({"tasks": {}})])
def test_foreign_files_are_not_taken_for_results(tmp_path, content):
    with pytest.raises(DataError, match="no results there"):
        load_results(tmp_path)
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError, match=r"cannot be read as JSON|must hold a JSON object|not a results file"):
        load_results(tmp_path)


def test_models_of_one_label_are_told_apart_by_their_folder():
    def results(label, folder):
        return {"model": {"label": label}, "folder": folder}

    three = [results("model", "runs/step-100"), results("bm25", "runs/bm25"), results("model", "runs/step-200")]
    name_apart(three)
    assert [r["model"]["label"] for r in three] == ["model (step-100)", "bm25", "model (step-200)"]


def test_dims_add_up_over_runs(embedder, word_model, data_root, tmp_path):
    entries = entries_for(["similar"], data_root)
    run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)
    said = []
    run_tasks(embedder, entries, [16, 64], tmp_path / "out", say=said.append)
    assert "@16" in said[0]
    results = load_results(tmp_path / "out")
    assert list(results["tasks"]["similar"]["scores"]) == ["64", "16"]
    assert set(load_items(results, "similar")) == {"64/test/default", "16/test/default", "gold/test/default"}
    once = run_tasks(embedder, entries, [64, 16], tmp_path / "once", say=lambda _: None)["tasks"]["similar"]
    assert results["tasks"]["similar"]["scores"] == once["scores"]
    said.clear()
    run_tasks(embedder, entries, [16], tmp_path / "out", overwrite=True, say=said.append)
    assert "done before" not in said[0]
    assert load_results(tmp_path / "out")["tasks"]["similar"]["scores"] == once["scores"]
    assert "64/test/default" in load_items(load_results(tmp_path / "out"), "similar")


def test_a_failed_rerun_keeps_what_was_scored(embedder, data_root, tmp_path):
    entries = entries_for(["similar"], data_root)
    first = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"]["similar"]
    path = data_root / "similar" / "test.jsonl"
    whole = path.read_text()
    path.write_text("{broken\n")
    found = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"]["similar"]
    assert "not JSON" in found["error"]
    assert found["scores"] == first["scores"]
    path.write_text(whole)
    again = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"]["similar"]
    assert again == first
    assert "error" not in load_results(tmp_path / "out")["tasks"]["similar"]


def test_lost_or_damaged_items_are_made_again(embedder, data_root, tmp_path):
    entries = entries_for(["similar"], data_root)
    path = tmp_path / "out" / "items" / "similar.npz"
    for spoil in (path.unlink, lambda: path.write_bytes(b"")):
        run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)
        spoil()
        said = []
        run_tasks(embedder, entries, [64], tmp_path / "out", say=said.append)
        assert "done before" not in said[0]
        assert load_items(load_results(tmp_path / "out"), "similar")


def test_a_score_that_is_not_a_number_is_an_error(embedder, data_root, tmp_path, write_jsonl):
    rows = [{"sentence1": "", "sentence2": "", "score": s} for s in (1.0, 2.0, 3.0)]
    write_jsonl(data_root / "similar" / "test.jsonl", rows)
    found = run_tasks(embedder, entries_for(["similar"], data_root), [64], tmp_path / "out", say=lambda _: None)
    assert "cosine_spearman at 64 dims is not a number" in found["tasks"]["similar"]["error"]


def test_a_folder_that_is_no_set_says_what_it_lacks(data_root, embedder, tmp_path):
    (data_root / "similar" / "test.jsonl").write_text("")
    entries = entries_for(["similar", "same"], data_root)
    found = run_tasks(embedder, entries, [64], tmp_path / "out", say=lambda _: None)["tasks"]
    assert "similar/test.jsonl: the file is empty" in found["similar"]["error"]
    assert "scores" in found["same"]


def test_the_prompt_on_record_is_the_one_used(make_word_model, data_root, tmp_path):
    plain, gecko = make_word_model(), make_word_model()
    gecko.prompt_style = "gecko"
    entries = entries_for(["similar"], data_root)
    for model, prompt in ((plain, "the model's own"), (gecko, "semantic similarity (symmetric, paper)")):
        out = tmp_path / model.prompt_style
        found = run_tasks(GeckoEmbedder(model, "m"), entries, [64], out, say=lambda _: None)
        assert found["tasks"]["similar"]["prompt"] == prompt
