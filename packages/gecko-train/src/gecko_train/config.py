"""Recipes: YAML read by these models, overridden by ``--set a.b=c``. An unknown key is an error, not a default."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gecko_core.errors import ConfigError
from gecko_fret.config import FretConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class StudentConfig(_Section):
    """The model that is trained."""

    model: str = Field("all-minilm-l6-v2", description="folder, packaged model or hub id")
    dims: list[int] = Field([384, 128], description="Matryoshka dims, largest first")
    max_seq_length: int = Field(256, ge=8, description="tokens; longer texts are cut")
    backbone: bool = Field(
        False, description="the model is a raw encoder or language model, not an embedding model yet"
    )

    @field_validator("dims")
    @classmethod
    def _descending(cls, dims: list[int]) -> list[int]:
        if not dims or sorted(set(dims), reverse=True) != dims or dims[-1] < 1:
            raise ValueError("give different dims of at least 1, largest first")
        return dims


class CorpusConfig(_Section):
    """The passages that FRet reads and the known-item test is drawn from."""

    path: str | None = Field(
        None, description="folder of .txt/.md, or .jsonl/.csv/.parquet; empty: the Python documentation"
    )
    max_passages: int | None = Field(None, ge=10, description="use at most this many passages, drawn by the seed")


class EvaluationConfig(_Section):
    """The known-item test: title as the query, the rest of its passage as the one relevant document."""

    queries: int = Field(300, ge=1, description="held-out passages; no stage of training sees them")
    max_documents: int = Field(1500, ge=2, description="size of the pool that is searched")
    task: str = "search result"


class SetConfig(_Section):
    """One training set of a mixture: where it comes from and how its rows are written."""

    source: str = Field(description="adapter: title-body, fret, triplets, pairs, nli, classification, ...")
    path: str | None = Field(
        None, description="file or folder, also below GECKO_DATA_DIR; hub:owner/name[/config] for a data set of the hub"
    )
    name: str | None = Field(
        None, description="name in the plan and the metrics; default: the source, or the path's name"
    )
    task: str | None = Field(None, description="task string; default: what the adapter says")
    symmetric: bool | None = Field(None, description="both sides in the query format; default: what the adapter says")
    limit: int | None = Field(None, ge=1, description="use at most this many rows")
    weight: float | None = Field(None, ge=0, description="share of the batches; give it to all sets or to none")
    same_tower: bool | None = Field(None, description="overrides the objective for this set")
    negatives_scope: Literal["own", "batch"] | None = Field(None, description="overrides the objective for this set")
    hard_negatives: int | None = Field(None, ge=0, description="overrides the objective for this set")
    hardness: float | None = Field(None, ge=0, description="overrides the objective for this set")
    kl_weight: float | None = Field(None, ge=0, description="overrides the objective for this set")
    spread_out: float | None = Field(None, ge=0, description="overrides the objective for this set")
    false_negative_margin: float | None = Field(None, ge=0, description="overrides the objective for this set")
    stream: bool = Field(False, description="read row after row while training, never whole; needs `rows`")
    rows: int | None = Field(None, ge=1, description="about how many rows a streamed set has: its size in the mixture")
    shuffle_rows: int = Field(16_384, ge=1, description="rows of a streamed set that are shuffled among each other")
    label_ids: Literal["unique", "mask"] = Field(
        "mask",
        description="classification rows: append a unique id to each row's texts (paper), or mask rows of one label",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the adapter")

    @model_validator(mode="after")
    def _streamed(self) -> SetConfig:
        if self.stream and self.rows is None:
            raise ValueError("a streamed set needs `rows`: about how many it has")
        if self.stream and self.source == "fret":
            raise ValueError("source fret is not streamed; leave `stream` out")
        return self


class ObjectiveConfig(_Section):
    """The Gecko loss and its switches."""

    temperature: float = Field(0.02, gt=0, description="not stated in the paper; 0.01 to 0.05 is the field's range")
    dims: list[int] | None = Field(None, description="Matryoshka dims; default: the student's")
    dim_weights: list[float] | None = Field(None, description="default: equal (1 each)")
    same_tower: bool = Field(True, description="other queries of the batch are negatives (SamToNe)")
    negatives_scope: Literal["own", "batch"] = Field(
        "own", description="own: a row's hard negatives count for it alone"
    )
    hard_negatives: int = Field(1, ge=0, description="hard negatives per row")
    hardness: float = Field(
        0.0, ge=0, description="weight exp(a * sim(q, p-)) of hard negatives (EmbeddingGemma: 5); 0: off"
    )
    kl_weight: float = Field(0.0, ge=0, description="KL from the teacher's scores over a row's documents; 0: off")
    kl_documents: int = Field(8, ge=2, description="documents per row in the KL term, the positive among them")
    kl_teacher_temperature: float = Field(1.0, gt=0)
    spread_out: float = Field(0.0, ge=0, description="weight of the mean squared similarity of different rows; 0: off")
    false_negative_margin: float | None = Field(
        None, ge=0, description="in-batch negatives this much nearer to the query than its positive do not count"
    )
    matching_weight: float = Field(0.0, ge=0, description="embedding matching with the stage's teacher model; 0: off")

    @model_validator(mode="after")
    def _weights_match(self) -> ObjectiveConfig:
        if self.dim_weights is not None and (self.dims is None or len(self.dim_weights) != len(self.dims)):
            raise ValueError("dim_weights needs dims of the same length")
        return self


class LoraConfig(_Section):
    """Low-rank adapters through peft (extra `lora`), merged into the weights at the end of the stage."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = Field("all-linear", description="names of the layers that get them")


class LoopConfig(_Section):
    """Evaluation at every checkpoint, on small sets; choose others than those you report."""

    sets: list[str] = Field(min_length=1, description="folders in BEIR layout or with sentence pairs, as for `path`")
    max_queries: int = Field(200, ge=1)
    max_documents: int = Field(2000, ge=2)


class TrainerConfig(_Section):
    """The optimisation loop."""

    batch_size: int = Field(64, ge=2, description="rows that the loss sees together, over all ranks")
    micro_batch_tokens: int = Field(
        8192, ge=64, description="tokens in one forward pass, padding included: what fits in memory"
    )
    padding_free: bool | Literal["auto"] = Field(
        "auto", description="lay texts end to end where the backbone can; auto: on a CPU, where it is faster"
    )
    grad_cache: bool | Literal["auto"] = Field(
        "auto",
        description="two forward passes, one micro-batch of activations; auto: only where a batch does not fit at once",
    )
    epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="optimizer steps; overrides epochs")
    learning_rate: float = Field(2e-5, gt=0)
    warmup: float = Field(0.1, ge=0, le=1, description="share of the steps")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device computes in it")
    max_seq_length: int | None = Field(None, ge=8, description="tokens in training; default: the student's")
    gradient_checkpointing: bool = False
    compile: bool = Field(False, description="torch.compile the backbone")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp: weights and optimizer cut over the ranks (FSDP2)"
    )
    lora: LoraConfig | None = Field(None, description="train low-rank adapters only")
    peak_tflops: float | None = Field(
        None, gt=0, description="for MFU; default: the GPU's rated bf16 peak, or measured"
    )
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list, description="extras of the package")
    checkpoint_every: int = Field(50, ge=0, description="steps; 0: only at the end")
    keep_checkpoints: int = Field(2, ge=1, description="the last so many; the best one is kept besides")
    evaluate: LoopConfig | None = Field(None, description="evaluation in the loop, which says which checkpoint is best")
    end_with: Literal["last", "best"] = Field("last", description="best: the stage ends with the best checkpoint")


class StageConfig(_Section):
    """One stage of training: its sets, its loss, its loop."""

    enabled: bool = True
    teacher: str | None = Field(None, description="model whose embeddings are matched (objective.matching_weight)")
    sets: list[SetConfig] = Field(min_length=1)
    alpha: float = Field(1.0, ge=0, description="sampling weight of a set: size ** alpha")
    steps_per_epoch: int | None = Field(None, ge=1)
    objective: ObjectiveConfig = Field(default_factory=lambda: ObjectiveConfig.model_validate({}))
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig.model_validate({}))

    @model_validator(mode="after")
    def _whole(self) -> StageConfig:
        if (self.teacher is None) != (self.objective.matching_weight == 0):
            raise ValueError("embedding matching needs both `teacher` and `objective.matching_weight`")
        if self.trainer.end_with == "best" and self.trainer.evaluate is None:
            raise ValueError("trainer.end_with: best needs trainer.evaluate, which says what is best")
        return self

    @model_validator(mode="after")
    def _weights(self) -> StageConfig:
        given = [one.weight is not None for one in self.sets]
        if any(given) and not all(given):
            raise ValueError("give every set a weight, or none of them")
        return self


def _stage(source: str, **objective: Any) -> Callable[[], StageConfig]:
    return lambda: StageConfig.model_validate({"sets": [{"source": source}], "objective": objective})


class Recipe(_Section):
    """The whole journey: corpus, two stages of training with FRet between them, evaluation after each."""

    name: str = "recipe"
    output: str | None = Field(None, description="default: runs/<name> in the current folder")
    seed: int = Field(0, ge=0)
    corpus: CorpusConfig = Field(default_factory=lambda: CorpusConfig.model_validate({}))
    student: StudentConfig = Field(default_factory=lambda: StudentConfig.model_validate({}))
    evaluation: EvaluationConfig = Field(default_factory=lambda: EvaluationConfig.model_validate({}))
    prefinetune: StageConfig = Field(default_factory=_stage("title-body", same_tower=False, hard_negatives=0))
    fret: FretConfig = Field(default_factory=lambda: FretConfig.model_validate({}))
    finetune: StageConfig = Field(default_factory=_stage("fret"))

    @property
    def folder(self) -> Path:
        """The output folder."""
        return Path(self.output or f"runs/{self.name}")


def find_recipe(name: str) -> Path:
    """A recipe's file: a path, or the name of a recipe of the checkout (``recipes/``) or of the installed package.

    Raises:
        ConfigError: there is no such recipe.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    packaged = Path(__file__).parent / "recipes"
    checkout = Path(__file__).parents[4] / "recipes"  # where links are not kept, the package's folder is a text file
    for folder in (packaged, checkout):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({one.stem for folder in (packaged, checkout) if folder.is_dir() for one in folder.glob("*.yaml")})
    raise ConfigError(f"no recipe called {name!r}; give the path of a YAML file, or one of: {', '.join(known)}")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``a.b=c`` overrides (values are YAML; ``sets.0.limit=5`` reaches into lists).

    Raises:
        ConfigError: the file is missing, not UTF-8 or not YAML, a key is unknown or a value is wrong. The message
            names the key's path and, for an unknown key, the nearest valid one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such recipe; give the path of a YAML file, or no argument for the quickstart"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save the recipe as UTF-8") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); correct it there") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, not keys with values; see recipes/quickstart.yaml")
    for override in overrides:
        _override(values, override)
    return parse_recipe(values, where=str(path))


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Validate the values of a recipe; one line of error for the first thing that is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error.errors()[0])}") from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out, ready to be run again."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise ConfigError(
            f"--set {override!r}: write it as key.path=value, for instance --set finetune.trainer.batch_size=32"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML; quote it") from None
    *path, last = key.strip().split(".")
    place: Any = values
    for depth, part in enumerate(path):
        if isinstance(place, list):
            place = place[_index(place, part, override)]
        else:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        if not isinstance(place, dict | list):
            raise ConfigError(f"--set {override!r}: {'.'.join(path[: depth + 1])} is a value and has no keys below it")
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    else:
        place[last] = value


def _index(place: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(place):
        raise ConfigError(f"--set {override!r}: {part!r} is not an index below {len(place)} of that list")
    return int(part)


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _keys_at(Recipe, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.0)
        return f"unknown key {path!r}; did you mean {near[0]!r}?" if near else f"unknown key {path!r}; remove it"
    if error["type"] == "missing":
        return f"key {path!r} is missing; add it"
    given = repr(error.get("input"))
    reason = error["msg"].removeprefix("Value error, ")
    return f"{path or 'recipe'}: {reason[0].lower()}{reason[1:]} (given: {given[:80]})"


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the keys that are valid at ``location``."""
    here: Any = model
    for part in location:
        if isinstance(part, int):  # an element of a list: the annotation was unwrapped already
            continue
        if not _is_model(here) or part not in here.model_fields:
            return []
        here = _model_of(here.model_fields[part].annotation)
    return list(here.model_fields) if _is_model(here) else []


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _model_of(annotation: Any) -> Any:
    if _is_model(annotation):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_of(inner)
        if found is not None:
            return found
    return None
