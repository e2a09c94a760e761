from gecko_train.config import parse_recipe
from gecko_train.run.steps.base import FINETUNED, MODELS, PREFINETUNED, START


def test_training_starts_from_the_last_model_that_the_recipe_makes():
    whole = parse_recipe({})
    assert PREFINETUNED.start(whole) == START
    assert FINETUNED.start(whole) == PREFINETUNED
    short = parse_recipe({"prefinetune": {"enabled": False, "sets": [{"source": "title-body"}]}})
    assert FINETUNED.start(short) == START
    assert [model.made_by(short) for model in MODELS] == [True, False, False, True]


def test_each_model_has_its_section_folder_and_evaluation():
    recipe = parse_recipe({"finetune": {"sets": [{"source": "fret"}], "trainer": {"batch_size": 7}}})
    assert FINETUNED.config(recipe).trainer.batch_size == 7
    assert [model.evaluation for model in MODELS] == [
        "evaluate-start",
        "evaluate-bidirectional",
        "evaluate-prefinetuned",
        "evaluate-finetuned",
    ]
