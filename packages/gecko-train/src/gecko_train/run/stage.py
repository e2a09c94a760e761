"""One stage of training from its config: read the sets, plan the mixture, train the model in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.io import find_data
from gecko_train.config import LoopConfig, StageConfig, StudentConfig
from gecko_train.data.mixture import Mixture
from gecko_train.data.sources.base import SourceContext
from gecko_train.data.sources.registry import load_set
from gecko_train.run.inputs import check_width

if TYPE_CHECKING:
    from gecko_core import Gecko
    from gecko_train.loop.watch import TrainingSummary


@dataclass(frozen=True)
class StageResult:
    """What a stage did, and on how many rows of each set."""

    summary: TrainingSummary
    rows: dict[str, int]  # of the sets that rows were drawn from
    sources: list[str]  # names of the sets and of what they were read from

    def record(self, config: StageConfig) -> dict[str, Any]:
        """What the model card and the stage's file say."""
        return {
            "sets": self.rows,
            "sources": self.sources,  # by this key an evaluation finds out what the model has seen
            "objective": config.objective.model_dump(mode="json"),
            "trainer": config.trainer.model_dump(mode="json"),
            **asdict(self.summary),
        }


def load_student(config: StudentConfig, device: str | None = None) -> Gecko:
    """The start model with fp32 weights: an embedding model as it is, or a raw backbone with mean pooling on top.

    Args:
        config: the model and its dims.
        device: None for this rank's GPU, or the best device there is.

    Raises:
        ConfigError: dims wider than the model.
    """
    from gecko_core import Gecko
    from gecko_train.loop.parallel import own_device

    device = device or own_device()
    if config.backbone:
        model = Gecko.from_backbone(config.model, dims=tuple(config.dims), device=device)
    else:
        model = Gecko.from_pretrained(config.model, device=device)
    check_width(config, model.dim)
    model.max_seq_length = min(model.max_seq_length, config.max_seq_length)
    model.truncate_dim = None  # student.dims says what is trained and measured, not the width that the folder gives
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
    inputs: Mapping[str, str] | None = None,
) -> StageResult:
    """Train ``model`` in place on the sets of ``config``, from the last checkpoint in ``folder`` if there is one.

    Args:
        model: the start model.
        config: the sets, the objective and the trainer's options.
        context: what the sets may draw on.
        folder: where checkpoints, metrics and curves go.
        dims: Matryoshka dims of the loss.
        title: name of the stage on the screen.
        identity: the start model's hash; a checkpoint of another one is not continued.
        console: a rich console to show progress on.
        on_checkpoint: see ``Trainer``; by default the evaluation that ``config`` asks for.
        inputs: hashes of the files that are read; a checkpoint that was made of others is not continued.

    Raises:
        ConfigError: the sets, the objective and a checkpoint in ``folder`` do not go together.
        DataError: a set cannot be read, the loss is not finite, or the disk is full.
    """
    from gecko_train.loop.trainer import Trainer
    from gecko_train.loss.objective import Objective

    objectives = [config.objective_of(set_config) for set_config in config.sets]
    teacher = None
    if config.teacher is not None:
        from gecko_core import Gecko
        from gecko_train.data.teacher import TeacherVectors

        cache = Path(config.teacher_cache) if config.teacher_cache else folder / "teacher"
        teacher = TeacherVectors(Gecko.from_pretrained(config.teacher, device=str(model.device)), cache, console)
    context = replace(context, teacher=teacher)
    sets = [
        load_set(set_config, context.reading(objective, set_config.blocks is not None))
        for set_config, objective in zip(config.sets, objectives, strict=True)
    ]
    weights = _weights(config, sets)
    mixture = Mixture(
        sets,
        batch_size=config.trainer.batch_size,
        seed=context.seed,
        weights=weights,
        alpha=config.alpha,
        steps_per_epoch=config.steps_per_epoch,
    )
    if config.prompts == "gecko":
        model.prompt_style = "gecko"
    trainer = Trainer(
        model, mixture, [Objective(objective, dims) for objective in objectives], config.trainer, folder,
        seed=context.seed, title=title, start=identity, identity=config.training(),
        console=console, on_checkpoint=on_checkpoint or loop_evaluation(config.trainer.evaluate, dims), teacher=teacher,
        inputs=inputs,
    )  # fmt: skip
    rows = {row_set.name: len(row_set) for row_set in sets if weights is None or weights[row_set.name]}
    return StageResult(trainer.train(), rows, _sources(config, sets))


def loop_evaluation(
    config: LoopConfig | None, dims: Sequence[int] | None = None
) -> Callable[[int, Gecko], Mapping[str, float]] | None:
    """What the trainer calls before a checkpoint: small sets through gecko-eval, the mean over sets first.

    Args:
        config: the sets; None for no evaluation.
        dims: what is measured, the first of them decides; the model's own by default.

    Raises:
        DataError: a set is not there or cannot be read.
    """
    if config is None:
        return None
    from gecko_eval.data import load_beir, load_sts
    from gecko_eval.in_training import LoopEvaluation, subsample

    sets: list[Any] = []
    for name in config.sets:
        path = find_data(name)
        if (path / "qrels").is_dir():
            sets.append(subsample(load_beir(path), config.max_queries, config.max_documents))
        else:
            sets.append(load_sts(path))
    evaluation = LoopEvaluation(sets, every=1, dims=dims)
    return lambda step, model: evaluation(model, step, force=True)


def _sources(config: StageConfig, sets: Sequence[Any]) -> list[str]:
    names = [row_set.name for row_set in sets]
    paths = [Path(set_config.path.removeprefix("hub:")).name for set_config in config.sets if set_config.path]
    return list(dict.fromkeys([*names, *paths]))


def _weights(config: StageConfig, sets: Sequence[Any]) -> dict[str, float] | None:
    if config.sets[0].weight is None:
        return None
    return {
        row_set.name: float(set_config.weight or 0.0) for row_set, set_config in zip(sets, config.sets, strict=True)
    }
