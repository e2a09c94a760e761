"""Training of Gecko embedding models: rows, mixture, objective, trainer, and recipes from a corpus to a model.

`import gecko_train` itself loads neither torch nor transformers: names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gecko_train._core import lazy_exports

if TYPE_CHECKING:
    from gecko_train.config import Recipe, SetConfig, TrainerConfig, find_recipe, load_recipe
    from gecko_train.data.mixture import Mixture
    from gecko_train.data.rows import Document, RowSet, TrainingRow
    from gecko_train.data.sources.base import SourceContext
    from gecko_train.data.sources.registry import load_set
    from gecko_train.loop.trainer import Trainer
    from gecko_train.loss.objective import Objective, ObjectiveConfig
    from gecko_train.run.journey import run_recipe
    from gecko_train.run.soup import soup

__version__ = "1.0.0"
__all__ = [
    "Document",
    "Mixture",
    "Objective",
    "ObjectiveConfig",
    "Recipe",
    "RowSet",
    "SetConfig",
    "SourceContext",
    "Trainer",
    "TrainerConfig",
    "TrainingRow",
    "__version__",
    "find_recipe",
    "load_recipe",
    "load_set",
    "run_recipe",
    "soup",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Document": "gecko_train.data.rows",
        "Mixture": "gecko_train.data.mixture",
        "Objective": "gecko_train.loss.objective",
        "ObjectiveConfig": "gecko_train.loss.objective",
        "Recipe": "gecko_train.config",
        "RowSet": "gecko_train.data.rows",
        "SetConfig": "gecko_train.config",
        "SourceContext": "gecko_train.data.sources.base",
        "Trainer": "gecko_train.loop.trainer",
        "TrainerConfig": "gecko_train.config",
        "TrainingRow": "gecko_train.data.rows",
        "find_recipe": "gecko_train.config",
        "load_recipe": "gecko_train.config",
        "load_set": "gecko_train.data.sources.registry",
        "run_recipe": "gecko_train.run.journey",
        "soup": "gecko_train.run.soup",
    },
    __all__,
)
