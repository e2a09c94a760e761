import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from gecko_eval import baselines
from gecko_eval.cli import app, spread
from gecko_eval.mteb import entries
from gecko_eval.mteb.encoder import GeckoEmbedder


@pytest.fixture
def invoke(monkeypatch, make_word_model, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")  # so that what --offline sets is undone after the test
    real = baselines.load_model
    monkeypatch.setattr(
        baselines,
        "load_model",
        lambda name, **k: GeckoEmbedder(make_word_model(name), name) if name.startswith("words") else real(name, **k),
    )

    def call(*arguments, data=None):
        environment = {"GECKO_DATA_DIR": str(data) if data else None}
        return CliRunner().invoke(app, spread([str(a) for a in arguments]), env=environment)

    return call


def test_values_after_one_option_are_spread():
    given = ["run", "--dims", "768", "256", "--tasks", "A", "B", "--model", "m", "--offline"]
    wanted = ["run", "--dims", "768", "--dims", "256", "--tasks", "A", "--tasks", "B", "--model", "m", "--offline"]
    assert spread(given) == wanted
    assert spread(["run", "--dims=768", "256"]) == ["run", "--dims", "768", "--dims", "256"]
    assert spread(["run", "--dims", "768", "--dims", "256"]) == ["run", "--dims", "768", "--dims", "256"]
    assert spread([]) == []
    assert spread(["compare", "--dims", "1", "2", "A"]) == ["compare", "--dims", "1", "--dims", "2", "A"]
    assert spread(["report", "--dims", "1", "2"]) == ["report", "--dims", "1", "2"]


def test_run_compare_report(invoke, data_root, tmp_path):
    for name in ("words1", "words2"):
        done = invoke(
            "run", "--model", name, "--dims", 64, 16, "--out", name, "--no-cache", "--offline", data=data_root
        )
        assert done.exit_code == 0, done.output
        assert "5 of 5 tasks scored" in done.output
    compared = invoke("compare", "words1", "words2", "--samples", 200, "--out", "figures")
    assert compared.exit_code == 0
    assert "words2 against words1" in compared.output
    assert (tmp_path / "figures" / "words2-against-words1.png").is_file()
    reported = invoke("report", "words1", "words2", "--out", "page")
    assert reported.exit_code == 0
    assert (tmp_path / "page" / "report.md").is_file()


def test_own_data_as_folder_or_table(invoke, beir_folder, tmp_path, write_jsonl):
    own = tmp_path / "own"
    write_jsonl(own / "corpus.jsonl", [{"id": "a", "text": "amber birch"}, {"id": "b", "text": "cedar delta"}])
    (own / "queries.csv").write_text("query,relevant_id\ncedar,b\n")
    done = invoke(
        "run", "-m", "words", "--data", beir_folder, "--data", own, "--out", "o", "--task-string", "fact checking"
    )
    assert done.exit_code == 0, done.output
    assert "2 of 2 tasks scored" in done.output
    assert "own: ndcg_at_10 100.00 @64" in done.output


def test_exit_codes_tell_some_from_all_failing(invoke, data_root):
    (data_root / "toy" / "qrels" / "test.tsv").write_text("q1\tnowhere\t1\n")
    some = invoke("run", "-m", "words", "-t", "toy", "-t", "similar", "--out", "o", "--no-cache", data=data_root)
    assert (some.exit_code, "1 of 2 tasks scored" in some.output) == (1, True)
    every = invoke("run", "-m", "words", "-t", "toy", "--out", "p", "--no-cache", data=data_root)
    assert every.exit_code == 2
    for run in (some, every):
        assert "toy: " in run.stderr
        assert "nowhere" in run.stderr
        assert "nowhere" not in run.stdout


def test_a_cache_that_would_not_be_used_is_refused(invoke, data_root):
    done = invoke("run", "-m", "words", "-t", "toy", "--out", "o", "--no-cache", "--cache", "c", data=data_root)
    assert (done.exit_code, "--cache has no effect beside --no-cache" in done.stderr) == (2, True)


def test_one_broken_set_of_several_fails_alone(invoke, beir_folder):
    done = invoke("run", "-m", "words", "--data", "absent", beir_folder, "--out", "o", "--no-cache")
    assert done.exit_code == 1
    assert "absent: no such folder" in done.stderr
    assert "1 of 2 tasks scored" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "-m", "words", "-t", "similar", "--dims", "65"], "the model gives 64 dims"),
        (["run", "-m", "words", "-t", "nonesuch"], "no task, benchmark or folder is called 'nonesuch'"),
        (["run", "-m", "no-such-model", "-t", "similar"], "no-such-model"),
        (["run", "-m", "words", "--data", "absent"], "absent: no such folder"),
        (["run", "-m", "words", "-t", "similar", "--out", "similar/test.jsonl"], "cannot be a folder for results"),
        (["run", "-m", "words", "-t", " "], "--tasks is empty"),
        (["run", "-m", "words", "--data", "toy", "--corpus", "x.csv"], "--corpus belongs to a queries.csv"),
        (
            ["run", "-m", "words", "--data", "similar", "--task-string", "x"],
            "--task-string is about queries and",
        ),
        (["run", "-m", "words", "--data", "same", "--symmetric"], "--symmetric is about queries and documents"),
        (
            ["run", "-m", "words", "--data", "topics", "--drop-unjudged"],
            "--drop-unjudged is about queries and",
        ),
        (["run", "-m", "words", "--data", "similar", "--corpus", "x"], "--corpus is about queries and documents"),
        (["run", "-m", "words", "-t", "toy", "--task-string", "x"], "--task-string is about --data; tasks and folders"),
        (["run", "-m", "words", "--symmetric"], "--symmetric is about --data; tasks and folders"),
        (["run", "-m", "words", "--field-weights", "title=9"], "are about --fields, which is not given"),
        (["run", "-m", "bm25", "-t", "toy", "--dims", "64"], "bm25 has no dims; leave --dims out"),
        (["prefetch", ""], "no task is named"),
        (["compare", "absent", "absent"], "no results there"),
        (["compare", "absent"], "at least two results folders"),
        (["compare", "absent", "--dims", "64"], "at least two results folders"),
        (["compare", "absent", "--dims", "64", "16", "--dim", "64"], "--dim and --dims do not go together"),
        (["report", "absent"], "no results there"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(invoke, data_root, arguments, message):
    done = invoke(*arguments, data=data_root)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_own_sentence_pairs_with_a_misspelt_column_are_told_so(invoke, data_root):
    path = data_root / "similar" / "test.jsonl"
    path.write_text(path.read_text().replace('"score"', '"similarity"'))
    done = invoke("run", "-m", "words", "--data", data_root / "similar", "--out", "o", "--no-cache")
    assert done.exit_code == 2
    assert "or a test.jsonl of sentence1/sentence2/score" in done.stderr


def test_tasks_shows_every_prompt(invoke, data_root):
    shown = invoke("tasks", "NFCorpus", "topics", data=data_root)
    assert shown.exit_code == 0
    assert "task: fact checking | query: {text}" in shown.output
    assert "title: {title} | text: {text}" in shown.output
    assert shown.output.count("task: classification | query: {text}") == 2


def test_prefetch_brings_what_it_can_and_names_the_rest(invoke, data_root, monkeypatch):
    there = entries.entries_for(["similar"], data_root)[0]

    def unreachable():
        raise ConnectionError("no route\nto host")

    absent = replace(there, name="NFCorpus", load=unreachable)
    monkeypatch.setattr(entries, "entries_for", lambda *_: [there, absent])
    done = invoke("prefetch", "similar", "NFCorpus")
    assert done.exit_code == 1
    assert "similar: in the cache" in done.output
    assert "NFCorpus: ConnectionError: no route to host\n" in done.stderr


def test_help_does_not_load_the_heavy_libraries():
    code = (
        "import sys; from gecko_eval.cli import app; print([m for m in ('torch', 'mteb', 'numpy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_prefetch_stops_where_there_is_no_network(invoke, data_root, monkeypatch):
    there = entries.entries_for(["similar"], data_root)[0]

    def unreachable():
        try:
            raise ConnectionError("no route")
        except ConnectionError:
            raise ValueError("cannot load") from None

    absent = [replace(there, name=name, load=unreachable) for name in "ABCDE"]
    monkeypatch.setattr(entries, "entries_for", lambda *_: absent)
    done = invoke("prefetch", "x")
    assert done.exit_code == 2
    assert "[3/5] C: ValueError: cannot load\nthe hub cannot be reached: 2 more not tried" in done.stderr
    monkeypatch.setattr(entries, "entries_for", lambda *_: [*absent[:2], there, *absent[2:4]])
    hiccups = invoke("prefetch", "x")
    assert (hiccups.exit_code, "cannot be reached" in hiccups.output) == (1, False)


def test_bm25_skips_what_it_cannot_do(invoke, data_root):
    done = invoke("run", "-m", "bm25", "-t", "similar", "toy", "--out", "o", data=data_root)
    assert (done.exit_code, "1 of 2 tasks scored, 1 skipped" in done.output) == (0, True)
    only = invoke("run", "-m", "bm25", "-t", "similar", "--out", "p", data=data_root)
    assert only.exit_code == 2


def test_a_task_string_that_changes_nothing_is_pointed_out(invoke, beir_folder):
    done = invoke("run", "-m", "words", "--data", beir_folder, "--task-string", "facts", "--out", "o", "--no-cache")
    assert "words is not prompted with task strings; --task-string changes nothing" in done.output
    assert "words, 64 and 16 dims, float32, on cpu, 1 tasks" in done.output


def test_own_data_keeps_its_name(invoke, data_root):
    (data_root / "similar").rename(data_root / "stsb")
    done = invoke("run", "-m", "words", "--data", data_root / "stsb", "--out", "o", "--no-cache")
    assert "] stsb: cosine_spearman" in done.output


@pytest.mark.long
def test_a_reader_that_goes_away_does_not_end_a_run(data_root, tmp_path):
    command = [sys.executable, "-m", "gecko_eval.cli", "run", "-m", "bm25", "-t", "toy", "--out", tmp_path / "o"]
    environment = {**os.environ, "GECKO_DATA_DIR": str(data_root), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    _, errors = process.communicate(timeout=280)
    assert (process.returncode, errors) == (0, "")
    assert (tmp_path / "o" / "results.json").is_file()


def test_dims_of_one_model_are_compared(invoke, data_root, tmp_path):
    run_one = ("run", "-m", "words", "-t", "toy", "similar", "--dims", 64, 16, "--out", "o", "--no-cache")
    assert invoke(*run_one, data=data_root).exit_code == 0
    shown = invoke("compare", "o", "--dims", 64, 16, "--samples", 100, "--out", "f")
    assert shown.exit_code == 0, shown.output
    assert "words @16 against words @64" in shown.output
    assert "note:" not in shown.output
    assert sorted(p.name for p in (tmp_path / "f").iterdir()) == ["o-16-against-o-64.csv", "o-16-against-o-64.png"]
    assert invoke("compare", "o", "--dims", 64, 8).exit_code == 2


def test_control_characters_of_results_are_shown_escaped(invoke, data_root, tmp_path):
    run_one = ("run", "-m", "words", "-t", "toy", "--dims", 64, 16, "--out", "o", "--no-cache")
    assert invoke(*run_one, data=data_root).exit_code == 0
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    results["model"]["label"] = "w\x1b[31m\nx"
    results["tasks"] = {"t\x1b]0;y\x07": results["tasks"]["toy"]}
    del results["checksum"]
    (tmp_path / "o" / "results.json").write_text(json.dumps(results))
    shown = invoke("compare", "o", "--dims", 64, 16, "--samples", 100)
    assert shown.exit_code == 0, shown.output
    assert "\x1b" not in shown.output
    assert "\x07" not in shown.output
    assert "w\\x1b[31m\\nx @16 is ahead on" in shown.output
    assert "t\\x1b]0;y\\x07" in shown.output


def test_threads_are_told_how_to_wait_before_anything_runs(monkeypatch):
    from gecko_eval import cli

    called = []
    monkeypatch.setattr("gecko_core.command.choose_waiting", lambda: called.append("waiting"))
    monkeypatch.setattr(cli, "app", lambda **options: called.append("app"))
    monkeypatch.setattr("sys.argv", ["gecko-eval"])
    cli.main()
    assert called == ["waiting", "app"]


def test_fields_of_a_fret_folder_need_vectors_and_a_folder(beir_folder, tmp_path):
    arguments = ["run", "--data", str(beir_folder), "--drop-unjudged", "--fields", str(tmp_path / "none")]
    result = CliRunner().invoke(app, [*arguments, "--model", "bm25", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "bm25 has no vectors to add" in result.output
    assert not (tmp_path / "out").exists()
