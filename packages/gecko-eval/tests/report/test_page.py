import pytest

from gecko_eval.baselines import Bm25
from gecko_eval.mteb.encoder import GeckoEmbedder
from gecko_eval.mteb.entries import entries_for
from gecko_eval.mteb.run import run_tasks
from gecko_eval.report.page import _main_scores, build_sections, write_report
from gecko_eval.report.paper import CATEGORIES, MTEB_ENG_V1, TASKS_ENG_V1, TASKS_ENG_V2
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


def test_the_forums_of_cqadupstack_count_as_one_task():
    forums = {f"CQADupstack{i}Retrieval": {"scores": {"64": {"main": i / 100}}} for i in range(12)}
    assert _main_scores(forums, "64")["CQADupstackRetrieval"] == pytest.approx(5.5)
    assert "CQADupstackRetrieval" not in _main_scores({k: v for k, v in forums.items() if "11" not in k}, "64")


def test_the_papers_averages_follow_from_its_categories():
    sizes = [len(names.split()) for names in TASKS_ENG_V1.values()]
    assert sum(sizes) == 56
    for model, _, _, scores in MTEB_ENG_V1:
        average = sum(n * s for n, s in zip(sizes, scores, strict=False)) / 56
        assert average == pytest.approx(scores[-1], abs=0.06), model


@pytest.mark.parametrize(("name", "tasks"), [("MTEB(eng, v1)", TASKS_ENG_V1), ("MTEB(eng, v2)", TASKS_ENG_V2)])
def test_the_lists_of_tasks_are_mtebs(name, tasks):
    import mteb

    found = {category: set() for category in CATEGORIES}
    kinds = {kind: category for category, kind in CATEGORIES.items()}
    for task in mteb.get_benchmark(name).tasks:
        found[kinds[task.metadata.type]].add(task.metadata.name)
    assert found == {category: set(names.split()) for category, names in tasks.items()}


def test_the_leaderboards_columns_for_v2():
    scores = {"STS12": 0.5, "STS13": 0.7, "SCIDOCS": 0.2, "NFCorpus": 0.9}
    tasks = {
        task: {"type": "STS", "main_score": "x", "scores": {"64": {"main": score}}} for task, score in scores.items()
    }
    model = {"label": "m", "key": "0" * 12, "record": {"sources": ["scidocs"]}}
    made = {"mteb": "1", "torch": "1", "gecko-eval": "1", "python": "3", "date": "d"}
    unknown = {"model": {**model, "label": "u", "record": {}}, "tasks": tasks, "folder": "b", "made": made}
    sections = build_sections([{"model": model, "tasks": tasks, "folder": "a", "made": made}, unknown])
    header, (row, other) = next((s[2], s[3]) for s in sections if s[0] == "MTEB(eng, v2)")
    cells = dict(zip(header, row, strict=True))
    assert cells["Mean (Task)"] == "46.67 (3 of 41)"
    assert cells["Mean (TaskType)"] == "40.00 (2 of 7 types)"
    assert (cells["STS"], cells["retr"], cells["class"]) == ("60.00 (2 of 9)", "20.00 (1 of 10)", "")
    assert cells["zero-shot"] == "98%"
    assert other[-1] == "not known"


def test_tasks_whose_data_changed_between_runs_are_marked():
    def results(folder, data):
        tasks = {"own": {"type": "STS", "main_score": "x", "data": data, "scores": {"64": {"main": 0.5}}}}
        return {"model": {"label": folder, "key": "k", "record": {}}, "tasks": tasks, "folder": folder, "made": {}}

    def names(*all_results):
        _, notes, _, rows = build_sections(all_results)[0]
        return rows[0][0], any("its data changed" in note for note in notes)

    assert names(results("a", "1"), results("b", "1")) == ("own", False)
    assert names(results("a", "1"), results("b", "2")) == ("own †", True)
