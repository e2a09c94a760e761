"""The recipes of the checkout (and of the wheel) are valid and say what they claim."""

import pytest

from gecko_train.config import dump_recipe, find_recipe, load_recipe, parse_recipe

NAMES = ("quickstart", "adapt", "domain", "smollm2-135m", "llm2vec", "gecko-1b", "multilingual")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_and_its_resolved_form_is_the_same(name):
    import yaml

    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_known_and_no_two_sets_share_a_name(name):
    from pathlib import Path

    from gecko_train.data.sources.registry import SOURCES

    recipe = load_recipe(find_recipe(name))
    for stage in (recipe.prefinetune, recipe.finetune):
        names = [
            entry.name or (Path(entry.path).name.split(".")[0] if entry.path else entry.source) for entry in stage.sets
        ]
        assert len(set(names)) == len(names)
        for entry in stage.sets:
            assert entry.source in SOURCES


@pytest.mark.parametrize("name", ["gecko-1b", "multilingual"])
def test_the_papers_recipes_hold_the_papers_choices(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.student.dims == [768, 256]
    assert (recipe.prefinetune.objective.same_tower, recipe.prefinetune.objective.hard_negatives) == (False, 0)
    loss = recipe.finetune.objective
    assert (loss.same_tower, loss.negatives_scope, loss.hard_negatives) == (True, "own", 1)
    assert recipe.finetune.interpolate is None
    assert recipe.fret.retrieve.candidates == 20
    sources = {entry.source for entry in recipe.finetune.sets}
    assert {"fret", "nq", "hotpotqa", "medmcqa", "snli", "mnli"} <= sources
