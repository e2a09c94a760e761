import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import MntpConfig, StageConfig, dump_recipe, find_recipe, load_recipe, parse_recipe


def test_the_quickstart_is_found_by_name_and_every_packaged_recipe_is_valid():
    path = find_recipe("quickstart")
    recipe = load_recipe(path)
    assert recipe.student.dims == [384, 128]
    assert recipe.folder == Path("runs/quickstart")
    for other in path.parent.glob("*.yaml"):
        assert load_recipe(other).name == other.stem


def test_the_resolved_recipe_reads_back_as_itself():
    recipe = load_recipe(find_recipe("quickstart"))
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_what_a_set_overrides_survives_the_resolved_recipe():
    override = {"hard_negatives": 0, "kl": {"weight": 0.5}}
    sets = [{"source": "fret", "objective": override}, {"source": "fret", "name": "plain"}]
    recipe = parse_recipe({"finetune": {"sets": sets, "objective": {"temperature": 0.05}}})
    written = yaml.safe_load(dump_recipe(recipe))
    assert [entry["objective"] for entry in written["finetune"]["sets"]] == [override, None]
    again = parse_recipe(written).finetune
    assert again.objective_of(again.sets[0]) == recipe.finetune.objective_of(recipe.finetune.sets[0])
    assert again.objective_of(again.sets[0]).temperature == 0.05


def test_fields_that_go_together_may_come_from_the_stage_and_the_set():
    sets = [{"source": "fret", "objective": {"dim_weights": [1, 2]}}]
    recipe = parse_recipe({"finetune": {"sets": sets, "objective": {"dims": [8, 4]}}})
    merged = recipe.finetune.objective_of(recipe.finetune.sets[0])
    assert (merged.dims, merged.dim_weights) == ([8, 4], [1.0, 2.0])
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


def test_reading_a_recipe_loads_no_torch():
    code = "import sys, gecko_train.config as c; c.load_recipe(c.find_recipe('quickstart')); sys.exit('torch' in sys.modules)"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_overrides_reach_sections_lists_and_new_keys(tmp_path):
    (tmp_path / "r.yaml").write_text("name: mine\nfinetune: {sets: [{source: fret}]}\n")
    recipe = load_recipe(
        tmp_path / "r.yaml",
        [
            "finetune.trainer.learning_rate=3e-5",
            "finetune.sets.0.limit=5",
            "student.dims=[64, 32]",
            "corpus.path='2024'",
        ],
    )
    assert recipe.finetune.trainer.learning_rate == 3e-5
    assert recipe.finetune.sets[0].limit == 5
    assert recipe.student.dims == [64, 32]
    assert recipe.corpus.path == "2024"
    assert recipe.folder == Path("runs/mine")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (
            "finetune: {sets: [{source: fret}], trainer: {learning_rat: 1}}",
            [],
            "unknown key 'finetune.trainer.learning_rat'; did you mean 'learning_rate'",
        ),
        ("evalation: {}", [], "unknown key 'evalation'; did you mean 'evaluation'"),
        ("fret: {generate: {seed: 3}}", [], "unknown key 'fret.generate.seed'; did you mean 'seeds'"),
        ("finetune: {sets: [{sorce: fret}]}", [], "finetune.sets.0"),
        ("finetune: {sets: []}", [], "finetune.sets: list should have at least 1 item"),
        ("student: {dims: [128, 384]}", [], "student.dims: give different dims"),
        ("seed: x", [], "seed: .*integer"),
        ("finetune: {sets: [{source: a, weight: 1}, {source: b}]}", [], "every set a weight"),
        ("- 1", [], "holds a list"),
        ("a: [", [], "not valid YAML"),
        ("name: x", ["seed"], "write it as section.key=value"),
        (
            "finetune: {sets: [{source: fret, objective: {kl: {wieght: 1}}}]}",
            [],
            "unknown key 'finetune.sets.0.objective.kl.wieght'; did you mean 'weight'",
        ),
        (
            "finetune: {sets: [{source: fret, objective: {hardnes: 1}}]}",
            [],
            "unknown key 'finetune.sets.0.objective.hardnes'; did you mean 'hardness'",
        ),
        (
            "finetune: {sets: [{source: fret, objective: {matching: {weight: 1}}}]}",
            [],
            "finetune: `teacher` and `objective.matching.weight` go together",
        ),
        (
            "finetune: {sets: [{source: fret, objective: {dims: [8]}}], objective: {dims: [8, 4], dim_weights: [1, 1]}}",  # noqa: E501
            [],
            "finetune: sets.0.objective: dim_weights needs dims of the same length",
        ),
        (
            "finetune: {sets: [{source: fret}, {source: nli, objective: {dim_weights: [1, 2]}}]}",
            [],
            "finetune: sets.1.objective: dim_weights needs dims of the same length",
        ),
        (
            "finetune: {sets: [{source: fret}], objective: {dim_weights: [1, 2]}}",
            [],
            "finetune.objective: dim_weights needs dims of the same length",
        ),
        (
            "finetune: {sets: [{source: fret, hard_negatives: 0}]}",
            [],
            "finetune.sets.0: the key 'hard_negatives' is now called 'objective.hard_negatives'",
        ),
        (
            "finetune: {sets: [{source: fret}], objective: {kl_weight: 1}}",
            [],
            "finetune.objective: the key 'kl_weight' is now called 'kl.weight'",
        ),
        ("mntp: {trainer: {end_with: best}}", [], "mntp: trainer.end_with: .* prediction evaluates nothing; leave it"),
        ("mntp: {trainer: {trackers: [wandb]}}", [], "mntp: trainer.trackers: masked next-token prediction writes its"),
        ("mntp: {trainer: {compile: true}}", [], "mntp: trainer.compile: .* runs without torch.compile; leave it out"),
        ("mntp: {trainer: {parallel: fsdp}}", [], "mntp: trainer.parallel: .* runs in one process; leave it out"),
        ('name: "a\\0b"', [], "name: 'a.x00b' has control characters"),
        (
            "finetune: {sets: [{source: fret}]}",
            ["finetune.objective.spread_out=0.1"],
            "finetune.objective.spread_out: a term is a section now; write {weight: 0.1}",
        ),
        (
            "finetune: {sets: [{source: fret}, {source: nli}], objective: {block: {weight: 1}}}",
            [],
            r"finetune: sets\.0: objective\.block reads blocks; write `blocks: {}` in the set",
        ),
        (
            "finetune: {sets: [{source: fret}], objective: {contrastive_weight: 0}}",
            [],
            r"finetune: sets\.0: objective\.contrastive_weight is 0 and no term has a weight; set one",
        ),
        (
            "finetune: {sets: [{source: fret, blocks: {}, stream: true, rows: 5}]}",
            [],
            "leave `stream` or `blocks` out",
        ),
        (
            "finetune: {sets: [{source: fret, blocks: {docs: 5}}]}",
            [],
            r"unknown key 'finetune\.sets\.0\.blocks\.docs'; did you mean 'documents'",
        ),
        ("name: x", ["name.deep=1"], "name is a value and has no keys below it"),
        ("finetune: {sets: [{source: fret}]}", ["finetune.sets.3.limit=1"], "not an index below 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_file_key_and_cure(tmp_path, text, overrides, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(path, overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_recipe_may_come_from_a_pipe(tmp_path):
    """As `gecko-train run <(...)` has it. It was read twice, and the second time it was empty: the defaults ran."""
    os.mkfifo(tmp_path / "pipe")
    writing = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("name: piped\nseed: 5\n"), daemon=True)
    writing.start()
    recipe = load_recipe(tmp_path / "pipe", ["evaluation.queries=7"])
    writing.join()
    assert (recipe.name, recipe.seed, recipe.evaluation.queries) == ("piped", 5, 7)


def test_files_that_are_no_recipes(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8"):
        load_recipe(tmp_path / "latin.yaml")
    for text in ("", "# a comment\n", "---\n", "{}", "null"):
        (tmp_path / "empty.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"empty\.yaml: holds no key; a recipe needs one at least"):
            load_recipe(tmp_path / "empty.yaml", ["name=x"])
    with pytest.raises(ConfigError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"no recipe called 'quikstart'; .*one of: .*quickstart"):
        find_recipe("quikstart")


def test_fine_tuning_goes_back_towards_the_start_unless_told_otherwise():
    recipe = parse_recipe({})
    assert (recipe.finetune.interpolate, recipe.finetune.interpolation) == ("auto", "linear")
    assert "interpolate" not in recipe.prefinetune.model_dump()
    for value, needs in ((None, False), (0, False), (0.5, False), ("auto", True)):
        finetune = parse_recipe({"finetune": {"sets": [{"source": "fret"}], "interpolate": value}}).finetune
        assert finetune.interpolate == value
        assert finetune.needs_known_items is needs
    with pytest.raises(ConfigError, match=r"finetune\.interpolate"):
        parse_recipe({"finetune": {"sets": [{"source": "fret"}], "interpolate": 1.5}})


def test_what_happens_after_training_is_not_part_of_its_identity():
    one, other = (
        parse_recipe({"finetune": {"sets": [{"source": "fret"}], "interpolate": value}}).finetune
        for value in (0.5, None)
    )
    assert one.training() == other.training()
    assert json.loads(one.training()) == StageConfig.model_validate({"sets": [{"source": "fret"}]}).model_dump(
        mode="json"
    )


def test_patience_needs_something_to_be_patient_with():
    stage = {"sets": [{"source": "title-body"}], "trainer": {"patience": 3}}
    with pytest.raises(ConfigError, match=r"prefinetune: trainer\.patience needs trainer\.evaluate, which says"):
        parse_recipe({"prefinetune": stage})
    finetune = parse_recipe({"finetune": {**stage, "interpolate": None}}).finetune
    assert finetune.evaluates_known_items
    assert finetune.needs_known_items
    evaluated = {**stage, "trainer": {"patience": 3, "evaluate": {"sets": ["scifact"]}}}
    assert not parse_recipe({"finetune": evaluated}).finetune.evaluates_known_items
    assert parse_recipe({"prefinetune": evaluated})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("finetune.alpha=1000", "finetune.alpha: input should be less than or equal to 2"),
        ("finetune.trainer.learning_rate=1.0e+38", "learning_rate: input should be less than or equal to 1"),
        ("finetune.trainer.epochs=.inf", "epochs: input should be a finite number"),
        ("finetune.objective={dims: [32], dim_weights: [-1]}", "dim_weights must not be negative"),
        ("finetune.objective={dims: [32], dim_weights: [0]}", "one at least must be above 0"),
        ("finetune.objective={dims: [32, 0]}", "dims must be different positive whole numbers"),
        ("finetune.objective={temperature: .nan}", "temperature: input should be a finite number"),
        ("finetune.objective={temperature: 1.0e-300}", "temperature: input should be greater than or equal to 0.0001"),
        ("prefinetune.objective.temperature=9.0e-5", "objective.temperature: input should be greater than or equal to"),
        ("finetune.objective.kl={temperature: 1.0e-30}", "kl.temperature: input should be greater than or equal to"),
        ("finetune.objective.kl={teacher_temperature: 1.0e-30}", "kl.teacher_temperature: input should be greater"),
        ("finetune.objective.block={temperature: 1.0e-30}", "block.temperature: input should be greater than or equal"),
        ("finetune.objective.block={teacher_temperature: 0}", "block.teacher_temperature: input should be greater"),
        ("finetune.objective.kl={temperature: 1.0e+300}", "kl.temperature: input should be less than or equal to 100"),
        ("finetune.sets.0.objective={block: {temperature: 1.0e-9}}", "block.temperature: input should be greater"),
        ("fret.llm.timeout_s=.inf", "timeout_s: input should be a finite number"),
        ("fret.llm.retries=100000", "retries: input should be less than or equal to 100"),
        ("fret.llm.api_key_env=gsk_0123456789abcdefABCD", "looks like a key"),
        (f"seed={10**30}", "seed: a whole number of more than 64 bits"),
    ],
)
def test_what_cannot_be_meant_is_refused(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(find_recipe("quickstart"), [override])
    assert "\n" not in str(caught.value)


def test_a_section_without_sets_has_the_sets_of_a_recipe_without_the_section():
    default, given = parse_recipe({}), parse_recipe({"prefinetune": {"trainer": {"max_steps": 3}}, "finetune": {}})
    assert given.prefinetune.sets == default.prefinetune.sets
    assert given.prefinetune.objective == default.prefinetune.objective
    assert given.finetune == default.finetune
    some = parse_recipe({"prefinetune": {"objective": {"temperature": 0.5}}}).prefinetune.objective
    assert (some.temperature, some.hard_negatives, some.same_tower) == (0.5, 0, False)
    with pytest.raises(ConfigError, match=r"prefinetune\.objective"):
        parse_recipe({"prefinetune": {"objective": 5}})
    with pytest.raises(ConfigError, match=r"prefinetune\.sets"):
        parse_recipe({"prefinetune": {"sets": []}})


def test_an_output_folder_may_be_below_home(monkeypatch):
    """YAML has no shell that would expand it."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse_recipe({"name": "x", "output": "~/runs/x"}).folder == Path("/home/ada/runs/x")
    with pytest.raises(DataError, match="~nosuchuser/x: there is no user of that name"):
        _ = parse_recipe({"name": "x", "output": "~nosuchuser/x"}).folder


def test_a_stage_whose_sets_all_have_no_weight():
    sets = [{"source": "title-body", "weight": 0}, {"source": "title-body", "name": "other", "weight": 0}]
    with pytest.raises(ConfigError, match=r"prefinetune: .*the weight of every set is 0, so there is nothing to train"):
        parse_recipe({"name": "x", "prefinetune": {"sets": sets}})
    sets[1]["weight"] = 0.5
    parse_recipe({"name": "x", "prefinetune": {"sets": sets}})
    sets[0]["weight"] = sets[1]["weight"] = 1e308
    with pytest.raises(ConfigError, match=r"prefinetune: .*the weights of the sets have no finite sum"):
        parse_recipe({"name": "x", "prefinetune": {"sets": sets}})


def test_a_part_of_the_trainer_of_masked_prediction_leaves_the_rest_as_it_is():
    """`--set mntp.trainer.max_steps=60` trained all weights, at the rate of the other stages."""
    whole = MntpConfig().trainer
    assert (whole.lora is not None, whole.max_steps, whole.batch_size) == (True, 1000, 32)
    for part in ({"max_steps": 60}, {"max_seq_length": 64}, {"lora": None}, {"checkpoint_every": 3}):
        assert parse_recipe({"mntp": {"trainer": part}}).mntp.trainer == whole.model_copy(update=part)
    by_epochs = parse_recipe({"mntp": {"trainer": {"epochs": 2}}}).mntp.trainer
    assert (by_epochs.max_steps, by_epochs.epochs, by_epochs.lora) == (None, 2, whole.lora)
    with pytest.raises(ConfigError, match=r"trainer\.frozen_layers: .* trains all layers; leave it out"):
        parse_recipe({"mntp": {"trainer": {"frozen_layers": 2}}})
