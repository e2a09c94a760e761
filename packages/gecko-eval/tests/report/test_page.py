import pytest

from gecko_eval.baselines import Bm25
from gecko_eval.mteb.encoder import GeckoEmbedder
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.run import run_tasks
from gecko_eval.report.page import write_report
from gecko_eval.results import load_results


@pytest.fixture
def results(make_word_model, data_root, tmp_path, make_public):
    # As public content they become mteb's own tasks, which the paper's table counts.
    make_public(data_root / "topics", "Banking77Classification")
    make_public(data_root / "toy", "SciFact")
    record = {"sources": [{"name": "banking77"}]}
    trained = GeckoEmbedder(make_word_model(), "trained|model", record=record)
    entries = entries_for(["topics", "similar", "toy"], data_root)
    (data_root / "similar" / "test.jsonl").write_text("{broken\n")
    run_tasks(trained, entries, [64, 16], tmp_path / "out", say=lambda _: None)
    return load_results(tmp_path / "out")


def test_the_page_shows_measured_rows_beside_the_papers(results, tmp_path):
    paths = write_report([results], tmp_path / "report")
    text = paths[0].read_text()
    assert [p.name for p in paths] == ["report.md", "report.html", "scores.png"]
    zero_shot, in_domain = text.index("## Beside the paper: zero-shot"), text.index("## Beside the paper: in-domain")
    assert zero_shot < text.index("| gecko, FRet only | 768 | 70.26 |") < in_domain
    assert in_domain < text.index("| gecko-1b-768 | 768 | 81.17 |")
    assert f"{100 * results['tasks']['SciFact']['scores']['64']['main']:.2f}" in text
    assert "trained\\|model @16" in text
    page = paths[1].read_text()
    assert "<td>gecko-1b-768</td>" in page
    assert "trained|model @16" in page
    assert paths[2].read_bytes()[:4] == b"\x89PNG"


def test_zero_shot_and_in_domain_are_kept_apart_and_warned_of(results, tmp_path):
    text = write_report([results], tmp_path / "report")[0].read_text()
    main = {name: 100 * task["scores"]["64"]["main"] for name, task in results["tasks"].items() if "scores" in task}
    rows = [line for line in text.splitlines() if line.endswith("measured here |") and "@64" in line]
    zero_shot, in_domain = rows
    assert text.index("paper: zero-shot") < text.index(zero_shot) < text.index("paper: in-domain")
    assert text.index("paper: in-domain") < text.index(in_domain)
    assert f"{main['SciFact']:.2f} (1 of 15)" in zero_shot
    assert f"{main['Banking77Classification']:.2f} (1 of 12)" not in zero_shot
    assert f"{main['Banking77Classification']:.2f} (1 of 12)" in in_domain
    assert "Banking77Classification is in-domain, trained on banking77" in text


def test_failures_are_on_the_page(results, tmp_path):
    assert "Tasks that failed" in write_report([results], tmp_path / "report")[0].read_text()


def test_a_model_without_a_record_gets_no_claim(make_word_model, data_root, tmp_path, make_public):
    make_public(data_root / "toy", "SciFact")
    entries = entries_for(["toy"], data_root)
    run_tasks(GeckoEmbedder(make_word_model(), "unknown"), entries, [64], tmp_path / "a", say=lambda _: None)
    run_tasks(Bm25(), entries, [0], tmp_path / "b", say=lambda _: None)
    text = write_report([load_results(tmp_path / "a"), load_results(tmp_path / "b")], tmp_path / "r")[0].read_text()
    parts = {part.splitlines()[0]: part for part in text.split("## ")}
    assert "| unknown @64 |" in parts["Beside the paper: not known here"]
    assert "| unknown @64 |" not in parts["Beside the paper: zero-shot"]
    assert "| bm25 |" in parts["Beside the paper: zero-shot"]


def test_names_are_text_and_never_markup(results, tmp_path):
    results["model"]["label"] = "<b>bold</b> | & co"
    paths = write_report([results], tmp_path / "report")
    assert "&lt;b&gt;bold&lt;/b&gt; | &amp; co @64" in paths[1].read_text()
    assert "<b>" not in paths[1].read_text()
    assert "| &lt;b>bold&lt;/b> \\| &amp; co @64 |" in paths[0].read_text()
