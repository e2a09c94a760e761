from types import SimpleNamespace

import pytest

from gecko_core.errors import ConfigError, DataError
from gecko_train.config import find_recipe, load_recipe
from gecko_train.run.folder import RunFolder
from gecko_train.run.steps.mntp import MntpAlone
from gecko_train.run.steps.train import TrainAlone


@pytest.mark.parametrize("step", [TrainAlone("prefinetune"), MntpAlone()])
def test_a_stage_alone_reads_the_recipes_corpus(step, language_model, tmp_path):
    """It read the interpreter's documentation where the recipe asks for a corpus, and all of it."""
    with pytest.raises(ConfigError, match="recipe domain adapts to your corpus: give it with --corpus PATH"):
        step.check(load_recipe(find_recipe("domain")))
    missing = load_recipe(find_recipe("domain"), [f"corpus.path={tmp_path / 'corpus.jsonl'}"])
    with pytest.raises(DataError, match=r"corpus\.jsonl: no such corpus"):
        step.check(missing)  # before a model is loaded
    (tmp_path / "corpus.jsonl").write_text("".join(f'{{"text": "passage {n}"}}\n' for n in range(60)))
    recipe = load_recipe(find_recipe("domain"), [f"corpus.path={tmp_path / 'corpus.jsonl'}", "corpus.max_passages=50"])
    if isinstance(step, MntpAlone):
        recipe.student.model, recipe.mntp.trainer.max_seq_length = str(language_model()), 64
    step.check(recipe)
    journey = SimpleNamespace(recipe=recipe, folder=RunFolder(tmp_path / "run", recipe))
    corpus = step.corpus(journey) if isinstance(step, MntpAlone) else step.context(journey).corpus
    assert len(corpus) == 50
