"""What `--dry-run` shows, beside what a run then does."""

import io
import json

import pytest
from rich.console import Console

from gecko_core.errors import ConfigError, DataError, ModelError
from gecko_train.config import parse_recipe
from gecko_train.run.journey import run_recipe, run_stage
from gecko_train.run.plan import plan_mntp, plan_recipe, plan_stage

TRAINER = {"batch_size": 8, "max_steps": 2, "precision": "fp32"}


@pytest.fixture
def recipe(small_recipe):
    return small_recipe | {"prefinetune": {"trainer": TRAINER}, "finetune": {"enabled": False}}


def shown(plan, recipe, *arguments):
    screen = io.StringIO()
    plan(parse_recipe(recipe), *arguments, Console(file=screen, width=500))
    return screen.getvalue()


def test_the_plan_has_the_headings_of_the_run_and_writes_nothing(recipe, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    plan = shown(plan_recipe, recipe)
    assert sorted(tmp_path.rglob("*")) == before
    assert plan.startswith(f"tiny -> {tmp_path / 'run'} (not begun); nothing is run or written now\n")
    assert "10 queries, 30 documents, at 32, 16 dims" in plan
    assert "title-body\n      2 steps of 8 rows, learning rate 2e-05" in plan
    screen = io.StringIO()
    run_recipe(parse_recipe(recipe), Console(file=screen, width=500))
    headings = [line for line in screen.getvalue().splitlines() if line.startswith("[")]
    assert [line for line in plan.splitlines() if line.startswith("[")] == headings
    of_corpus = next(line for line in screen.getvalue().splitlines() if "left for training" in line)
    assert plan.splitlines()[2] == of_corpus.rpartition(" (")[0]


def test_finished_steps_are_told_until_one_that_is_done_again(recipe, tmp_path):
    run_recipe(parse_recipe(recipe), Console(quiet=True))
    finished = shown(plan_recipe, recipe)
    assert "(finished)" in finished.splitlines()[0]
    assert finished.count(": done before") == 4
    for weights in (tmp_path / "run" / "prefinetune" / "model").glob("*.safetensors"):
        weights.unlink()
    again = shown(plan_recipe, recipe)
    assert "(begun)" in again.splitlines()[0]
    assert again.count(": done before") == 2
    assert "2 steps of 8 rows" in again


def test_a_fret_step_has_the_plan_of_its_build(recipe):
    recipe["finetune"] = {"trainer": {"batch_size": 8, "epochs": 1}}
    recipe["fret"] = {"llm": {"model": "smollm2-135m-instruct"}, "generate": {"seeds": 5}}
    plan = shown(plan_recipe, recipe)
    assert "LLM smollm2-135m-instruct, embedder all-minilm-l6-v2" in plan
    assert "from 5 seeds" in plan
    assert "one pass over the rows, batches of 8 rows" in plan
    assert "measured on known items" in plan
    assert "--like" not in plan  # no option of this command
    recipe["finetune"]["interpolate"] = 0.5
    assert "0.5 of the way to the trained model is saved" in shown(plan_recipe, recipe)


def test_what_would_stop_the_run_stops_the_plan(recipe, tmp_path):
    with pytest.raises(DataError, match="gone"):
        shown(plan_recipe, recipe | {"corpus": {"path": str(tmp_path / "gone.jsonl")}})
    sets = [{"source": "pairs", "path": str(tmp_path / "none.jsonl")}]
    with pytest.raises(DataError, match=r"prefinetune\.sets\.0"):
        shown(plan_recipe, recipe | {"prefinetune": {"sets": sets}})
    with pytest.raises(ConfigError, match="needs a path here"):
        shown(plan_stage, recipe, "finetune")
    run_stage(parse_recipe(recipe), "prefinetune", Console(quiet=True))
    assert "(finished)" in shown(plan_stage, recipe, "prefinetune")
    with pytest.raises(ConfigError, match="another recipe"):
        shown(plan_recipe, recipe | {"seed": 7})


FRET = {"source": "fret"}


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"sets": [FRET, {"source": "tittle-body"}]}, r"finetune\.sets: unknown source 'tittle-body'"),
        ({"sets": [FRET, {"source": "pairs"}]}, r"finetune\.sets: source 'pairs' needs a `path`"),
        ({"sets": [FRET | {"options": {"nope": 1}}]}, r"finetune\.sets: options of source 'fret': unknown key 'nope'"),
        ({"sets": [FRET | {"options": {"sources": ["log"]}}]}, r"this run's FRet will have no row of log; it has llm"),
        ({"sets": [FRET, {"source": "title-body", "options": {"x": 1}}]}, r"options of source 'title-body'"),
        ({"sets": [FRET | {"stream": True, "rows": 9}]}, r"looks at all its rows at once; leave `stream` out"),
        ({"sets": [{"source": "texts", "options": {"queries": "gone.txt"}}]}, r"gone\.txt: no such file"),
        ({"sets": [FRET], "objective": {"kl": {"weight": 1, "score": "nope"}}}, r"no score 'nope'; it has fused, "),
        (
            {"sets": [FRET], "objective": {"dims": [32, 777]}},
            r"finetune\.objective\.dims: 777 is larger than the model's",
        ),
    ],
)
def test_what_fine_tuning_would_stop_at_after_the_llms_work(recipe, finetune, message):
    with pytest.raises((ConfigError, DataError), match=message):
        shown(plan_recipe, recipe | {"finetune": finetune})


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        ({"sets": [{"source": "pairs", "path": "{}/a.pdf"}]}, r"finetune.*a\.pdf: "),
        ({"sets": [{"source": "pairs", "path": "{}/pairs.csv", "name": "x"}]}, r"finetune.*the column 'Query' is not"),
        ({"sets": [{"source": "classification", "path": "{}/empty"}]}, r"finetune.*empty: no file train\.jsonl"),
        ({"sets": [{"source": "title-body", "path": "{}/a.pdf"}]}, r"finetune.*a\.pdf: cannot read '\.pdf'"),
        ({"sets": [{"source": "simcse", "path": "{}/pairs.csv"}]}, r"finetune.*pairs\.csv.*column.*text"),
        ({"sets": [{"source": "texts", "path": "{}/empty"}]}, r"finetune.*empty: no \.txt"),
        ({"sets": [{"source": "arrow", "path": "{}/a.pdf"}]}, r"finetune.*a\.pdf: "),
        ({"sets": [{"source": "beir", "path": "{}/empty"}]}, r"finetune.*empty"),
    ],
)
def test_what_is_no_set_of_its_source_is_told_before_the_llms_work(recipe, finetune, message, tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    (tmp_path / "pairs.csv").write_text("Query,positive\na,b\n")
    (tmp_path / "empty").mkdir()
    sets = [entry | {"path": entry["path"].format(tmp_path)} for entry in finetune["sets"]]
    with pytest.raises((ConfigError, DataError), match=message):
        shown(plan_recipe, recipe | {"finetune": {"sets": [FRET, *sets]}})


def test_two_sets_of_one_name(recipe, tmp_path):
    (tmp_path / "pairs.csv").write_text("query,positive\na,b\n")
    pairs = {"source": "pairs", "path": str(tmp_path / "pairs.csv")}
    with pytest.raises(ConfigError, match=r"sets\.0 and sets\.2 are both called 'fret'; give each its own `name`"):
        shown(plan_recipe, recipe | {"finetune": {"sets": [FRET, pairs, FRET]}})
    with pytest.raises(ConfigError, match=r"sets\.0 and sets\.1 are both called 'pairs'"):
        shown(plan_recipe, recipe | {"finetune": {"sets": [pairs, pairs]}})
    shown(plan_recipe, recipe | {"finetune": {"sets": [FRET, pairs, FRET | {"name": "again"}]}})


def test_a_teachers_cache_that_is_a_file(recipe, tmp_path):
    (tmp_path / "cache").write_text("")
    stage = {
        "sets": [{"source": "title-body"}], "objective": {"matching": {"weight": 1}}, "teacher": "all-minilm-l6-v2",
        "teacher_cache": str(tmp_path / "cache"),
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"prefinetune\.teacher_cache: .*cache is a file; name a folder"):
        shown(plan_recipe, recipe | {"prefinetune": stage})


def test_terms_that_read_scores_which_no_source_has(recipe):
    stage = {"sets": [{"source": "title-body"}], "objective": {"kl": {"weight": 1}}}
    with pytest.raises(ConfigError, match=r"prefinetune\.sets: no source here has scores \(title-body\).*objective.kl"):
        shown(plan_recipe, recipe | {"prefinetune": stage})
    on = {"kl": {"weight": 1}}
    sets = [FRET, {"source": "title-body", "objective": on}]
    with pytest.raises(ConfigError, match=r"finetune\.sets: no source here has scores \(title-body\)"):
        shown(plan_recipe, recipe | {"finetune": {"sets": sets}})
    shown(plan_recipe, recipe | {"finetune": {"sets": [FRET, {"source": "title-body"}], "objective": on}})


def test_what_one_stage_alone_would_stop_at(recipe, tmp_path, tiny_backbone):
    (tmp_path / "pairs.csv").write_text("query,positive\na,b\nc,d\n")
    pairs = {"source": "pairs", "path": str(tmp_path / "pairs.csv")}

    def refused(stage, match, error=ConfigError):
        with pytest.raises(error, match=match):
            shown(plan_stage, recipe | {"finetune": {"sets": [pairs], **stage}}, "finetune")

    refused({"trainer": {"patience": 2}}, "patience and end_with: best need something to judge checkpoints by")
    refused({"trainer": {"end_with": "best"}}, "without a FRet set this stage alone has nothing")
    refused({"sets": [pairs | {"blocks": {}}]}, "source 'pairs' has no candidates to make blocks of.*fret and texts")
    refused({"trainer": {"lora": {"targets": ["nope"]}}}, "no layer of the backbone is called 'nope'")
    teacher = {"teacher": str(tiny_backbone), "objective": {"matching": {"weight": 1}}}
    refused(teacher, r"finetune\.teacher: ", ModelError)
    judged = {"evaluate": {"sets": [pairs["path"]]}}
    refused({"trainer": judged}, r"finetune\.trainer\.evaluate\.sets\.0: ", DataError)


@pytest.mark.parametrize("manifest", [None, {"format": 2, "complete": False, "stages": {}}])
def test_a_fret_folder_of_another_build_is_read_before_the_first_step(recipe, manifest, tmp_path):
    folder = tmp_path / "other"
    folder.mkdir()
    if manifest:
        (folder / "manifest.json").write_text(json.dumps(manifest))
    finetune = {"sets": [FRET, FRET | {"path": str(folder)}]}
    with pytest.raises(DataError, match=r"finetune\..*other: (not a FRet folder|the build is not finished)"):
        shown(plan_recipe, recipe | {"finetune": finetune})


def test_a_start_model_that_is_not_there(recipe):
    recipe["student"]["model"] = "nowhere/at/all"
    with pytest.raises(ModelError, match=r"student\.model: "):
        shown(plan_recipe, recipe)


def test_a_start_model_without_the_dims_that_are_asked_for(recipe):
    """Told without loading the model, which takes a while and, of the hub, a download."""
    recipe["student"] |= {"model": "all-minilm-l6-v2", "backbone": False, "dims": [385, 64]}
    message = r"student\.dims: 385 is not the 384 of all-minilm-l6-v2, and the widest .* model's own: \[384, 64\]"
    with pytest.raises(ConfigError, match=message):
        shown(plan_recipe, recipe)
    with pytest.raises(ConfigError, match=message):
        shown(plan_stage, recipe, "prefinetune")
    recipe["student"]["dims"] = [256, 64]  # narrower ones would be saved as a model that cannot be opened
    with pytest.raises(ConfigError, match=r"student\.dims: 256 is not the 384 .*: \[384, 256, 64\]"):
        shown(plan_stage, recipe, "prefinetune")


def test_masked_next_token_prediction_alone(recipe, language_model):
    student = recipe["student"] | {"model": str(language_model())}
    mntp = {"enabled": True, "trainer": {"max_seq_length": 64}}
    plan = shown(plan_mntp, recipe | {"student": student, "mntp": mntp})
    assert plan.splitlines()[1] == "[1/1] masked next-token prediction"
    assert "1000 steps of 32 sequences" in plan
