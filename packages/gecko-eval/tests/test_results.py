import json

import numpy as np
import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_eval.results import (
    claimed,
    load_items,
    load_results,
    name_apart,
    open_results,
    safe_name,
    save_items,
    save_results,
)

TASK = {"type": "STS", "main_score": "cosine_spearman", "scores": {"64": {"main": 0.5, "splits": {}}}}


def sound(**change):
    return {"model": {"label": "m", "key": "k", "record": {}}, "tasks": {"t": TASK}, "dims": [64], "made": {}} | change


def test_what_is_saved_is_loaded(tmp_path):
    save_results(tmp_path, {**sound(), "folder": "elsewhere"})
    assert load_results(tmp_path) == {**sound(), "folder": str(tmp_path)}
    assert load_results(tmp_path / "results.json") == load_results(tmp_path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"model": "m"}, "model"),
        ({"model": {"label": "m"}}, "model"),
        ({"model": {"label": "m", "key": "k", "record": []}}, r"model\.record"),
        ({"made": "today"}, "made"),
        ({"dims": ["64"]}, "dims"),
        ({"tasks": []}, "tasks"),
        ({"tasks": {"t": None}}, "tasks, t"),
        ({"tasks": {"t": {"error": 3}}}, "tasks, t"),
        ({"tasks": {"t": {**TASK, "scores": None}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"big": {"main": 0.5}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": float("nan")}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": 10**400}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": -(10**300)}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": 1e300}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": float("inf")}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"64": {"main": 0.5, "splits": {"test": 3}}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"9" * 5000: {"main": 0.5}}}}}, "tasks, t, scores"),
        ({"tasks": {"t": {**TASK, "scores": {"10000001": {"main": 0.5}}}}}, "tasks, t, scores"),
        ({"dims": [10**400]}, "dims"),
        ({"dims": [-1]}, "dims"),
        ({"tasks": {"t": {**TASK, "items": "median"}}}, "tasks, t, scores"),
        ({"tasks": {"t": {"scores": TASK["scores"]}}}, "tasks, t, scores"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path, change, where):
    (tmp_path / "results.json").write_text(json.dumps(sound(**change)))
    with pytest.raises(DataError, match=rf"results\.json: damaged at {where}; delete it") as e:
        load_results(tmp_path)
    assert "\n" not in str(e.value)


def test_what_is_no_results_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent/results\.json: no results there; .* --out .*absent`"):
        load_results(tmp_path / "absent")
    for text, message in (
        ("{", r"cannot be read as JSON .* delete it and run the tasks again"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "not a results file"),
    ):
        (tmp_path / "results.json").write_text(text)
        with pytest.raises(DataError, match=message):
            load_results(tmp_path)
    (tmp_path / "results.json").unlink()
    (tmp_path / "results.json").mkdir()
    with pytest.raises(DataError, match=r"no results there|cannot be read"):
        load_results(tmp_path)


def test_a_folder_is_one_models(tmp_path, embedder):
    save_results(tmp_path, sound())
    with pytest.raises(ConfigError, match=r"holds results of m, not of words; choose another --out"):
        open_results(embedder, [64], tmp_path)
    save_results(tmp_path, sound(model={"label": "words", "key": "k", "record": {}}))
    with pytest.raises(ConfigError, match=r"holds results of words with other weights, prompts or precision"):
        open_results(embedder, [64], tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    (tmp_path / ".results.json.1.tmp").write_text("half")
    with claimed(tmp_path):
        assert not (tmp_path / ".results.json.1.tmp").exists()
        with pytest.raises(ConfigError, match="another gecko-eval run is writing there"), claimed(tmp_path):
            pass
    with claimed(tmp_path):
        pass


def test_items_of_any_task_have_a_file_of_their_own(tmp_path):
    names = ["a b", "a:b", "a,b", "тест", "名前", "..", "plain", "x" * 300, "x" * 299 + "y"]
    for i, name in enumerate(names):
        save_items(tmp_path, name, {"64/test/default": np.array([float(i)])})
    results = {"folder": str(tmp_path)}
    assert [load_items(results, name)["64/test/default"][0] for name in names] == list(range(len(names)))
    assert (safe_name("plain"), load_items(results, "never")) == ("plain", {})


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more", "npy", "nan", "square"])
def test_damaged_items_are_named(tmp_path, content):
    path = tmp_path / "items" / "t.npz"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(path, **{"64/x": np.array([np.nan]) if content == "nan" else np.zeros((2, 2))})
    with pytest.raises(DataError, match=r"t\.npz: the items of t are damaged; run the task again with --overwrite"):
        load_items({"folder": str(tmp_path)}, "t")


def test_items_that_are_not_those_of_the_scores_are_refused(tmp_path):
    values = {"a": 0.5, "b": 1.0}
    checksums = {name: save_items(tmp_path, name, {"64/x": np.array([value])}) for name, value in values.items()}
    results = {
        "folder": str(tmp_path),
        "tasks": {name: {**TASK, "items_sha256": checksum} for name, checksum in checksums.items()},
    }
    assert load_items(results, "a")["64/x"][0] == 0.5
    (tmp_path / "items" / "a.npz").write_bytes((tmp_path / "items" / "b.npz").read_bytes())
    with pytest.raises(DataError, match=r"a\.npz: the items of a are damaged; run the task again"):
        load_items(results, "a")
    (tmp_path / "items" / "a.npz").unlink()
    with pytest.raises(DataError, match=r"a\.npz: the items of a are missing; run the task again"):
        load_items(results, "a")


def test_a_score_that_a_disk_has_changed_is_noticed(tmp_path):
    save_results(tmp_path, sound())
    path = tmp_path / "results.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    with pytest.raises(DataError, match="damaged at a place that its checksum covers"):
        load_results(tmp_path)


def test_equal_labels_are_told_apart_by_their_folders(tmp_path):
    def named(*folders):
        found = [sound(model={"label": "m"}, folder=str(tmp_path / folder)) for folder in folders]
        name_apart(found)
        return [results["model"]["label"] for results in found]

    assert named("a", "b") == ["m (a)", "m (b)"]
    assert named("a/r", "b/r") == ["m (a/r)", "m (b/r)"]
    assert named("a") == ["m"]


def test_text_that_is_no_utf8_is_escaped(tmp_path):
    model = {"label": "\udcff", "key": "k", "record": {}}
    save_results(tmp_path, sound(model=model))
    assert load_results(tmp_path)["model"] == model
