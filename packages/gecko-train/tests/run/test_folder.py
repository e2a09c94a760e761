import pytest
import yaml

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import parse_recipe
from gecko_train.run.folder import RunFolder, peak_memory_gb


def test_finished_stages_are_read_back_not_run_again(tmp_path):
    calls = []
    for _ in range(2):
        with RunFolder.claim(tmp_path / "run", parse_recipe({"name": "a"})) as folder:
            assert folder.stage("one", lambda: calls.append(1) or {"x": 1.5}) == {"x": 1.5}
    assert calls == [1]


def test_a_stage_that_fails_leaves_no_result(tmp_path):
    with RunFolder.claim(tmp_path / "run", parse_recipe({})) as folder:
        with pytest.raises(ZeroDivisionError):
            folder.stage("one", lambda: {"x": 1 / 0})
        assert folder.finished("one") is None


def test_a_run_that_ends_before_it_has_made_anything_leaves_the_folder_free(tmp_path):
    with pytest.raises(ZeroDivisionError), RunFolder.claim(tmp_path / "runs" / "one", parse_recipe({"seed": 1})):
        raise ZeroDivisionError
    assert not (tmp_path / "runs").exists()  # what was made for it goes, too
    (tmp_path / "run").mkdir()
    with pytest.raises(ZeroDivisionError), RunFolder.claim(tmp_path / "run", parse_recipe({"seed": 1})):
        raise ZeroDivisionError
    assert (tmp_path / "run").is_dir()
    with RunFolder.claim(tmp_path / "run", parse_recipe({"seed": 2})) as folder:
        folder.stage("one", lambda: {"x": 1})
    with pytest.raises(ZeroDivisionError), RunFolder.claim(tmp_path / "run", parse_recipe({"seed": 2})):
        raise ZeroDivisionError  # what has begun stays
    with (
        pytest.raises(ConfigError, match=r"another recipe .seed: 2 there, 3 here"),
        RunFolder.claim(tmp_path / "run", parse_recipe({"seed": 3})),
    ):
        pass


def test_another_runs_folder_is_refused_and_left_alone(tmp_path):
    with RunFolder.claim(tmp_path / "run", parse_recipe({"finetune": {"sets": [{"source": "fret"}]}})):
        pass
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    other = parse_recipe({"prefinetune": {"trainer": {"batch_size": 7}}, "finetune": {"sets": [{"source": "fret"}]}})
    with (
        pytest.raises(
            ConfigError,
            match=r"another recipe .prefinetune\.trainer\.batch_size: 64 there, 7 here.; give the same settings",
        ),
        RunFolder.claim(tmp_path / "run", other),
    ):
        pass
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_finetuning_may_be_corrected_until_it_has_begun(tmp_path):
    """Hours of an LLM's work are in the folder when a set of the last step turns out to be wrong."""
    path, one = tmp_path / "run", {"sets": [{"source": "fret"}]}
    with RunFolder.claim(path, parse_recipe({"finetune": one})) as folder:
        folder.stage("corpus", dict)
    corrected = parse_recipe({"finetune": one | {"trainer": {"batch_size": 7}}})
    assert RunFolder.look(path, corrected).finished("corpus") == {}
    with RunFolder.claim(path, corrected):
        pass
    assert parse_recipe(yaml.safe_load((path / "recipe.yaml").read_text())) == corrected
    for other in (
        {"finetune": one, "seed": 3},
        {"finetune": one | {"enabled": False}},
        {"finetune": one | {"interpolate": None}},
        {"finetune": one | {"known_items": {"titles": 3}}},
        {"finetune": one | {"trainer": {"patience": 3}}},
    ):
        with pytest.raises(ConfigError, match="another recipe"):
            RunFolder.look(path, parse_recipe(other))
    for made in ("stages/finetune.json", "finetune/checkpoints"):
        (path / made).mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"another recipe .finetune\.trainer\.batch_size: 7 there, 64 here"):
            RunFolder.look(path, parse_recipe({"finetune": one}))
        (path / made).rmdir()
    RunFolder.look(path, parse_recipe({"finetune": one}))


def test_a_run_of_an_earlier_version_is_the_same_run_under_the_new_names(tmp_path):
    recipe = parse_recipe({"finetune": {"sets": [{"source": "fret"}], "objective": {"kl": {"weight": 0.5}}}})
    with RunFolder.claim(tmp_path / "run", recipe):
        pass
    values = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    objective = values["finetune"]["objective"]
    objective |= {"kl_weight": 0.5, "kl_documents": 8, "kl_teacher_temperature": 1.0, "spread_out": 0.0}
    del objective["kl"]
    values["finetune"]["sets"][0] |= {"kl_weight": None, "spread_out": None}
    del values["finetune"]["sets"][0]["objective"]
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(values))
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.writes
    objective["kl_weight"] = 0.25
    (tmp_path / "run" / "stages").mkdir()
    (tmp_path / "run" / "stages" / "finetune.json").write_text("{}")
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(values))
    with (
        pytest.raises(ConfigError, match=r"finetune\.objective\.kl\.weight: 0\.25 there, 0\.5 here"),
        RunFolder.claim(tmp_path / "run", recipe),
    ):
        pass


def test_a_moved_run_is_still_the_same_run(tmp_path):
    with RunFolder.claim(tmp_path / "a", parse_recipe({"output": "a"})) as folder:
        folder.stage("one", lambda: {"x": 1})
    (tmp_path / "a").rename(tmp_path / "b")
    with RunFolder.claim(tmp_path / "b", parse_recipe({"output": "b"})) as folder:
        assert folder.finished("one") == {"x": 1}


def test_foreign_folders_files_and_running_neighbours_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    (tmp_path / "file").write_text("x")
    for name, message in (("photos", "not a run of gecko-train"), ("file", "is a file")):
        with pytest.raises(ConfigError, match=message), RunFolder.claim(tmp_path / name, parse_recipe({})):
            pass
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with RunFolder.claim(tmp_path / "begun", parse_recipe({})) as folder:
        folder.stage("one", lambda: {"x": 1})
    (tmp_path / "begun" / "recipe.yaml").unlink()
    with pytest.raises(ConfigError, match=r"begun: the run's recipe\.yaml is gone; put back"):
        RunFolder.claim(tmp_path / "begun", parse_recipe({})).__enter__()
    with (
        RunFolder.claim(tmp_path / "run", parse_recipe({})),
        pytest.raises(ConfigError, match="another gecko-train is running there"),
        RunFolder.claim(tmp_path / "run", parse_recipe({})),
    ):
        pass


def test_a_finished_model_of_which_a_file_is_gone_is_made_again_and_one_that_was_changed_is_refused(tmp_path):
    recipe = parse_recipe({})
    made = []

    def work():
        made.append("model")
        for name in ("model.safetensors", "modules.json", "tokenizer.json", "README.md"):
            path = tmp_path / "run" / "model" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        return {"x": 1}

    def again():
        with RunFolder.claim(tmp_path / "run", recipe) as folder:
            folder._outputs = {"one": ("model",)}
            return folder.stage("one", work)

    again()
    (tmp_path / "run" / "model" / "README.md").write_text("a card of my own")
    assert again() == {"x": 1}
    assert made == ["model"]
    (tmp_path / "run" / "model" / "tokenizer.json").unlink()
    again()
    assert made == ["model"] * 2
    (tmp_path / "run" / "model" / "modules.json").write_text("another")
    with pytest.raises(DataError, match=r"modules\.json: not what this run made; restore it, or remove it"):
        again()


def test_what_a_killed_process_left_is_removed(tmp_path):
    with RunFolder.claim(tmp_path / "run", parse_recipe({})) as folder:
        folder.stage("one", lambda: {"x": 1})
    (tmp_path / "run" / ".model.123.tmp").mkdir()
    (tmp_path / "run" / ".model.123.tmp" / "half").write_text("x")
    with RunFolder.claim(tmp_path / "run", parse_recipe({})) as folder:
        assert not (tmp_path / "run" / ".model.123.tmp").exists()
        assert folder.finished("one") == {"x": 1}


def test_a_run_killed_while_its_recipe_was_written_can_start_again(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".recipe.yaml.123.tmp").write_text("na")
    with RunFolder.claim(tmp_path, parse_recipe({"name": "a"})):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recipe.yaml"]


def test_a_damaged_result_is_one_line_with_the_file_and_the_cure(tmp_path):
    with RunFolder.claim(tmp_path / "run", parse_recipe({})) as folder:
        folder.stage("one", lambda: {"x": 1})
        (tmp_path / "run" / "stages" / "one.json").write_text('{"x": ')
        with pytest.raises(DataError, match=r"stages.one\.json: cannot be read .*; remove the file to run") as caught:
            folder.stage("one", lambda: {"x": 2})
    assert "\n" not in str(caught.value)


def test_memory_is_counted_in_gigabytes():
    assert 0.01 < peak_memory_gb() < 1000


def test_other_ranks_neither_lock_nor_write(tmp_path, monkeypatch):
    with RunFolder.claim(tmp_path / "run", parse_recipe({})) as first:
        assert first.writes
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setenv("RANK", "1")
        with RunFolder.claim(tmp_path / "run", parse_recipe({})) as second:
            assert not second.writes
            assert second.finished("finetune") is None
        assert sorted(tmp_path.rglob("*")) == before


def test_each_rank_refuses_another_run(tmp_path, monkeypatch):
    with RunFolder.claim(tmp_path / "run", parse_recipe({"seed": 1})):
        pass
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(ConfigError, match="another recipe"), RunFolder.claim(tmp_path / "run", parse_recipe({})):
            pytest.fail("taken")


def test_a_run_from_before_interpolation_goes_on_without_it(tmp_path):
    recipe = parse_recipe({"name": "a"})
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.recipe == recipe
    values = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    for key in ("interpolate", "interpolation", "known_items"):
        del values["finetune"][key]
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(values))
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.recipe.finetune.interpolate is None
        assert folder.recipe.prefinetune == recipe.prefinetune
    asked = parse_recipe({"name": "a", "finetune": {"sets": [{"source": "fret"}], "interpolate": 0.5}})
    with (
        pytest.raises(ConfigError, match=r"finetune\.interpolate: null there, 0\.5 here"),
        RunFolder.claim(tmp_path / "run", asked),
    ):
        pass


def test_a_run_from_before_drawn_words_goes_on_without_them(tmp_path):
    recipe = parse_recipe({"name": "a"})
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.recipe.finetune.known_items.words == 200
    values = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    del values["finetune"]["known_items"]["words"]
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(values))
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.recipe.finetune.known_items.words == 0
        assert folder.recipe.finetune.known_items.titles == recipe.finetune.known_items.titles
    asked = parse_recipe({"name": "a", "finetune": {"sets": [{"source": "fret"}], "known_items": {"words": 7}}})
    with (
        pytest.raises(ConfigError, match=r"finetune\.known_items\.words: 0 there, 7 here"),
        RunFolder.claim(tmp_path / "run", asked),
    ):
        pass


def test_other_ranks_go_on_with_the_same_recipe(tmp_path, monkeypatch):
    recipe = parse_recipe({})
    with RunFolder.claim(tmp_path / "run", recipe):
        pass
    values = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    del values["finetune"]["interpolate"]
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv("RANK", "1")
    with RunFolder.claim(tmp_path / "run", recipe) as folder:
        assert folder.recipe.finetune.interpolate is None
