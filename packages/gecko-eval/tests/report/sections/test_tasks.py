from gecko_eval.report.page import build_sections
from gecko_eval.report.sections import Page


def test_tasks_whose_data_changed_between_runs_are_marked():
    def results(folder, data):
        tasks = {"own": {"type": "STS", "main_score": "x", "data": data, "scores": {"64": {"main": 0.5}}}}
        return {"model": {"label": folder, "key": "k", "record": {}}, "tasks": tasks, "folder": folder, "made": {}}

    def names(*all_results):
        _, notes, _, rows = build_sections(Page(all_results))[0]
        return rows[0][0], any("its data changed" in note for note in notes)

    assert names(results("a", "1"), results("b", "1")) == ("own", False)
    assert names(results("a", "1"), results("b", "2")) == ("own †", True)
