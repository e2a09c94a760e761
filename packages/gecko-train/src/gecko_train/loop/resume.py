"""Whether a run may go on from a checkpoint: plan, model, settings and inputs must be those that it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gecko_core.errors import ConfigError
from gecko_train.config import StageConfig
from gecko_train.loop.checkpoint import Checkpoint

_IDENTITY = {"plan": "with another data plan", "model": "of another model", "stage": "with other settings"}
_FURTHER = {"data": "the texts, negatives or scores of its sets", "embedder": "tokenizer or settings of its model"}


def check_same_run(checkpoint: Checkpoint, identity: Mapping[str, str], further: Mapping[str, Any]) -> None:
    """Check that a checkpoint is of this run.

    Args:
        checkpoint: the checkpoint.
        identity: of the run: its ``plan``, its start ``model`` and its ``stage``, a resolved section of the recipe.
        further: what earlier versions did not note, and checkpoints of theirs are continued without: ``data``,
            ``embedder`` and ``inputs``, hashes by the names of the files.

    Raises:
        ConfigError: something is not what it was.
    """
    saved = {key: checkpoint.state.get(key) for key in identity}
    saved["stage"] = _under_current_names(saved["stage"])
    for key, value in identity.items():
        if saved[key] != value:
            raise ConfigError(
                f"{checkpoint.path}: a checkpoint {_IDENTITY[key]}; choose another output folder with --out"
            )
    for key, changed in _FURTHER.items():
        if key in checkpoint.state and checkpoint.state[key] != further[key]:
            raise ConfigError(
                f"{checkpoint.path}: a checkpoint from before {changed} changed; restore them, or choose another "
                "output folder with --out"
            )
    inputs = further["inputs"]
    for label, digest in checkpoint.state.get("inputs", {}).items():
        if inputs and inputs.get(label) != digest:
            raise ConfigError(
                f"{checkpoint.path}: a checkpoint from before {label} changed; restore it, or choose another "
                "output folder with --out"
            )


def _under_current_names(stage: Any) -> Any:
    """A resolved stage that an earlier version may have written, under the names of this one; other text as it is."""
    try:
        return StageConfig.model_validate(StageConfig.upgrade(json.loads(stage))).model_dump_json()
    except (TypeError, ValueError):
        return stage
