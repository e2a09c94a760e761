"""A trainer with small settings."""

import io

import pytest
import torch
from rich.console import Console

from gecko_train.config import ObjectiveConfig, TrainerConfig
from gecko_train.data.mixture import Mixture
from gecko_train.loop.trainer import Trainer
from gecko_train.loss.objective import Objective


@pytest.fixture(name="trainer", scope="session")
def _trainer():
    """Makes a trainer that shows nothing: trainer(model, sets, folder, ...), with settings of ``TrainerConfig``."""
    return trainer


@pytest.fixture(name="weights", scope="session")
def _weights():
    """Reads all weights of a model as one vector: weights(model)."""
    return weights


def trainer(model, sets, folder, *, seed=0, batch_size=8, hook=None, objective=None, teacher=None, **config):
    settings = {
        "batch_size": batch_size,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "micro_batch_tokens": 128,
        **config,
    }
    objective = Objective(ObjectiveConfig(**(objective or {})), dims=model.dims)
    mixture = Mixture(sets, batch_size=batch_size, seed=seed)
    return Trainer(
        model, mixture, [objective] * len(sets), TrainerConfig(**settings), folder, seed=seed,
        console=Console(file=io.StringIO()), on_checkpoint=hook, teacher=teacher,
    )  # fmt: skip


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
