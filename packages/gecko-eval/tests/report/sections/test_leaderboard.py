from gecko_eval.report.page import build_sections
from gecko_eval.report.sections import Page


def test_the_leaderboards_columns_for_v2():
    scores = {"STS12": 0.5, "STS13": 0.7, "SCIDOCS": 0.2, "NFCorpus": 0.9}
    tasks = {
        task: {"type": "STS", "main_score": "x", "scores": {"64": {"main": score}}} for task, score in scores.items()
    }
    model = {"label": "m", "key": "0" * 12, "record": {"sources": ["scidocs"]}}
    made = {"mteb": "1", "torch": "1", "gecko-eval": "1", "python": "3", "date": "d"}
    unknown = {"model": {**model, "label": "u", "record": {}}, "tasks": tasks, "folder": "b", "made": made}
    sections = build_sections(Page([{"model": model, "tasks": tasks, "folder": "a", "made": made}, unknown]))
    header, (row, other) = next((s.header, s.rows) for s in sections if s.heading == "MTEB(eng, v2)")
    cells = dict(zip(header, row, strict=True))
    assert cells["Mean (Task)"] == "46.67 (3 of 41)"
    assert cells["Mean (TaskType)"] == "40.00 (2 of 7 types)"
    assert (cells["STS"], cells["retr"], cells["class"]) == ("60.00 (2 of 9)", "20.00 (1 of 10)", "")
    assert cells["zero-shot"] == "98%"
    assert other[-1] == "not known"
