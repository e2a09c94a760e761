"""One stage of training from its config: read the sets, plan the mixture, train the model in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_train.config import ObjectiveConfig, SetConfig, StageConfig, StudentConfig
from gecko_train.mixture import Mixture
from gecko_train.rows import RowSet
from gecko_train.sources import SourceContext, load_set

if TYPE_CHECKING:
    from gecko_core import Gecko
    from gecko_train.trainer import TrainingSummary


@dataclass(frozen=True)
class StageResult:
    """What a stage did, and on how many rows of each set."""

    summary: TrainingSummary
    rows: dict[str, int]

    def record(self, config: StageConfig) -> dict[str, Any]:
        """What the model card and the stage's file say."""
        return {
            "sets": self.rows,
            "objective": config.objective.model_dump(mode="json"),
            "trainer": config.trainer.model_dump(mode="json"),
            **asdict(self.summary),
        }


def load_student(config: StudentConfig, device: str | None = None) -> Gecko:
    """The start model with fp32 weights: an embedding model as it is, or a raw backbone with mean pooling on top."""
    from gecko_core import Gecko

    if config.backbone:
        model = Gecko.from_backbone(config.model, dims=tuple(config.dims), device=device)
    else:
        model = Gecko.from_pretrained(config.model, device=device)
    model.max_seq_length = min(model.max_seq_length, config.max_seq_length)
    return model


def train_stage(
    model: Gecko,
    config: StageConfig,
    context: SourceContext,
    folder: Path,
    *,
    dims: Sequence[int],
    title: str,
    identity: str = "",
    console: Any = None,
    on_checkpoint: Any = None,
) -> StageResult:
    """Train ``model`` in place on the sets of ``config``, from the last checkpoint in ``folder`` if there is one.

    Args:
        dims: Matryoshka dims of the loss.
        identity: further things that must be equal for a checkpoint to be continued (the start model's hash).

    Raises:
        ConfigError, DataError: see :func:`gecko_train.sources.load_set` and :class:`gecko_train.trainer.Trainer`.
    """
    from gecko_train.objective import Objective
    from gecko_train.trainer import Trainer

    sets = [load_set(_with_list(one, config), context) for one in config.sets]
    objectives = [Objective(objective_for(config.objective, one), dims) for one in config.sets]
    mixture = Mixture(
        sets,
        batch_size=config.trainer.batch_size,
        seed=context.seed,
        weights=_weights(config, sets),
        alpha=config.alpha,
        steps_per_epoch=config.steps_per_epoch,
    )
    model.prompt_style = "gecko"
    trainer = Trainer(
        model, mixture, objectives, config.trainer, folder,
        seed=context.seed, title=title, identity=f"{identity} {config.model_dump_json()}",
        console=console, on_checkpoint=on_checkpoint,
    )  # fmt: skip
    return StageResult(trainer.train(), {one.name: len(one) for one in sets})


def objective_for(objective: ObjectiveConfig, one: SetConfig) -> ObjectiveConfig:
    """The stage's objective with the switches that the set overrides."""
    switches = {key: getattr(one, key) for key in ("same_tower", "negatives_scope", "hard_negatives")}
    return objective.model_copy(update={key: value for key, value in switches.items() if value is not None})


def _with_list(one: SetConfig, config: StageConfig) -> SetConfig:
    """A KL term needs the candidates' texts and scores beside the chosen two."""
    if one.source != "fret" or not config.objective.kl_weight or "list_documents" in one.options:
        return one
    return one.model_copy(update={"options": {**one.options, "list_documents": config.objective.kl_documents - 2}})


def _weights(config: StageConfig, sets: Sequence[RowSet]) -> dict[str, float] | None:
    if config.sets[0].weight is None:
        return None
    return {one.name: float(given.weight or 0.0) for one, given in zip(sets, config.sets, strict=True)}
