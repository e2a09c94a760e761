"""Recipes: the pydantic models that a recipe's YAML is checked by, and how recipes are found, read and written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, field_serializer, field_validator, model_validator

from gecko_core.errors import ConfigError
from gecko_core.io import Section, describe_error, dump_settings, load_settings, parse_settings, user_path
from gecko_fret.config import FretConfig
from gecko_train.loss.objective import ObjectiveConfig, ObjectiveFields


class StudentConfig(Section):
    """The model that is trained."""

    model: str = Field(default="all-minilm-l6-v2", description="folder, packaged model or hub id")
    dims: list[int] = Field(default=[384, 128], description="Matryoshka dims, largest first")
    max_seq_length: int = Field(default=256, ge=8, description="tokens; longer texts are truncated")
    backbone: bool = Field(
        default=False, description="whether the model is a raw encoder or language model, not yet an embedding model"
    )

    @field_validator("dims")
    @classmethod
    def _descending(cls, dims: list[int]) -> list[int]:
        if not dims or sorted(set(dims), reverse=True) != dims or dims[-1] < 1:
            raise ValueError("give different dims of at least 1, largest first")
        return dims


class CorpusConfig(Section):
    """The passages for FRet and for the known-item test."""

    path: str | None = Field(
        default=None, description="folder of .txt/.md, or .jsonl/.csv/.tsv/.parquet; empty: the Python documentation"
    )
    required: bool = Field(default=False, description="a run without path is refused: its recipe is for your corpus")
    max_passages: int | None = Field(
        default=None, ge=10, description="use at most this many passages, sampled with the seed"
    )


class EvaluationConfig(Section):
    """The known-item test: a title is the query, its passage's text the one relevant document."""

    queries: int = Field(default=300, ge=1, description="held-out passages; no stage of training sees them")
    max_documents: int = Field(default=1500, ge=2, description="size of the pool that is searched")
    task: str = "search result"


class BlocksConfig(Section):
    """Batches that are blocks: neighbouring queries, and documents that all of them share."""

    documents: int = Field(default=96, ge=2, description="documents of a block")
    queries: int = Field(default=96, ge=1, description="most queries of a block")
    best: int = Field(default=4, ge=1, description="documents that a query brings: the best of its candidates")
    others: int = Field(default=4, ge=0, description="documents that a query brings: drawn from its other candidates")
    starts: int = Field(
        default=8, ge=1, description="random queries from which a block grows; 1: all of it is one neighbourhood"
    )
    shared: int = Field(
        default=4, ge=1, description="candidates among the documents that further queries must have to fill a block up"
    )


class SetConfig(Section):
    """One training set of a mixture: its source and the format of its rows."""

    renamed: ClassVar = {
        "same_tower": "objective.same_tower",
        "negatives_scope": "objective.negatives_scope",
        "hard_negatives": "objective.hard_negatives",
        "hardness": "objective.hardness",
        "kl_weight": "objective.kl.weight",
        "spread_out": "objective.spread_out.weight",
        "false_negative_margin": "objective.false_negative_margin",
    }

    source: str = Field(description="where rows come from: title-body, fret, triplets, pairs, nli, classification, ...")
    path: str | None = Field(
        default=None,
        description="file or folder, also below GECKO_DATA_DIR; hub:owner/name[/config] for a data set of the hub",
    )
    name: str | None = Field(
        default=None, description="name in the plan and the metrics; default: the source, or the path's name"
    )
    task: str | None = Field(default=None, description="task string; default: the source's")
    symmetric: bool | None = Field(default=None, description="both sides in the query format; default: the source's")
    limit: int | None = Field(default=None, ge=1, description="use at most this many rows")
    weight: float | None = Field(default=None, ge=0, description="share of the batches; give it to all sets or to none")
    objective: ObjectiveFields | None = Field(
        default=None, description="fields of the stage's objective that are different for this set"
    )
    stream: bool = Field(
        default=False, description="read row by row while training, without loading the whole set; needs `rows`"
    )
    rows: int | None = Field(
        default=None, ge=1, description="approximate number of rows of a streamed set, which is its size in the mixture"
    )
    shuffle_rows: int = Field(default=16_384, ge=1, description="size of the shuffle buffer of a streamed set, in rows")
    blocks: BlocksConfig | None = Field(
        default=None,
        description="make each batch a block; for sources with candidates (fret, texts); `trainer.batch_size` does not "
        "apply",
    )
    label_ids: Literal["unique", "mask"] = Field(
        default="mask",
        description="classification rows: append a unique id to each row's texts (paper), or mask rows of one label",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the source")

    @property
    def called(self) -> str:
        """Its name in the plan and the metrics: ``name``, or the path's, or the source."""
        return self.name or (Path(self.path).name.split(".")[0] if self.path else self.source)

    @field_serializer("objective")
    def _only_what_is_set(self, objective: ObjectiveFields | None) -> dict[str, Any] | None:
        return None if objective is None else objective.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _streamed(self) -> SetConfig:
        if self.stream and self.rows is None:
            raise ValueError("a streamed set needs `rows`, the approximate number of its rows")
        if self.stream and self.blocks is not None:
            raise ValueError("blocks are planned over the whole set; leave `stream` or `blocks` out")
        return self


class LoraConfig(Section):
    """Low-rank adapters through peft (extra `lora`), merged into the weights at the end of the stage."""

    rank: int = Field(default=16, ge=1, le=16_384)
    alpha: float = Field(default=32.0, gt=0, le=10_000)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Annotated[list[str], Field(min_length=1)] | Literal["all-linear"] = Field(
        default="all-linear", description="names of the layers that are adapted"
    )


class LoopConfig(Section):
    """Evaluation at every checkpoint, on small sets; do not use the sets you report on."""

    sets: list[str] = Field(min_length=1, description="folders in BEIR layout or with sentence pairs, as for `path`")
    max_queries: int = Field(default=200, ge=1)
    max_documents: int = Field(default=2000, ge=2)


class TrainerConfig(Section):
    """The optimisation loop."""

    batch_size: int = Field(default=64, ge=2, description="rows in one loss, over all ranks")
    micro_batch_tokens: int = Field(
        default=8192, ge=64, description="tokens in one forward pass, padding included; limited by memory"
    )
    padding_free: bool | Literal["auto"] = Field(
        default="auto",
        description="pack texts without padding where the backbone supports it; auto: on CPUs, where it is faster",
    )
    grad_cache: bool | Literal["auto"] = Field(
        default="auto",
        description="two forward passes, activations of one micro-batch; auto: only for a batch that does not fit",
    )
    epochs: float = Field(default=1.0, gt=0, le=10_000)
    max_steps: int | None = Field(default=None, ge=1, description="optimizer steps; overrides epochs")
    learning_rate: float = Field(default=2e-5, gt=0, le=1)
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where the device computes in it"
    )
    max_seq_length: int | None = Field(default=None, ge=8, description="tokens in training; default: the student's")
    attention_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="share of the attention weights dropped in training; default: the model's"
    )
    gradient_checkpointing: bool = False
    compile: bool = Field(default=False, description="torch.compile the backbone")
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="fsdp: weights and optimizer sharded across ranks (FSDP2)"
    )
    lora: LoraConfig | None = Field(default=None, description="train low-rank adapters only")
    frozen_layers: int = Field(
        default=0,
        ge=0,
        description="leave the embeddings and so many of the lowest layers as they are: less time a step",
    )
    peak_tflops: float | None = Field(
        default=None, gt=0, description="for MFU; default: the GPU's rated bf16 peak, or measured"
    )
    trackers: list[Literal["tensorboard", "wandb"]] = Field(
        default_factory=list, description="each is an extra of the package"
    )
    checkpoint_every: int = Field(default=50, ge=0, description="steps; 0: only at the end")
    keep_checkpoints: int = Field(
        default=2, ge=1, description="most recent checkpoints to keep; the best one is kept too"
    )
    evaluate: LoopConfig | None = Field(
        default=None, description="evaluation during training, which decides the best checkpoint"
    )
    end_with: Literal["last", "best"] = Field(default="last", description="checkpoint whose weights the stage returns")
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after so many evaluations that are no better than the best before, the start included",
    )

    def described(self, unit: str) -> str:
        """How long it trains, as a line of a plan.

        Args:
            unit: what a batch is made of; "blocks" where the batch size does not apply.
        """
        passes = "one pass" if self.epochs == 1 else f"{self.epochs:g} passes"
        length = f"{self.max_steps} steps" if self.max_steps else f"{passes} over the {unit}"
        size = "" if unit == "blocks" else f" of {self.batch_size} {unit}"
        batches = size if self.max_steps else f", batches{size}" if size else ""
        return f"{length}{batches}, learning rate {self.learning_rate:g}"

    @model_validator(mode="after")
    def _frozen_once(self) -> TrainerConfig:
        if self.frozen_layers and self.lora is not None:
            raise ValueError("lora leaves all layers as they are and adds to them; leave frozen_layers or lora out")
        return self


class StageConfig(Section):
    """One stage of training: its sets, its loss and its trainer."""

    enabled: bool = True
    teacher: str | None = Field(
        default=None, description="model whose embeddings terms such as objective.matching read"
    )
    teacher_cache: str | None = Field(
        default=None,
        description="folder for the teacher's vectors, computed once; default: `teacher` in the stage's folder",
    )
    prompts: Literal["gecko", "own"] = Field(
        default="own",
        description="own: texts are written as the start model does (a raw backbone: as the paper does), which keeps "
        "what it can; gecko: as the paper does",
    )
    sets: list[SetConfig] = Field(min_length=1)
    alpha: float = Field(default=1.0, ge=0, le=2, description="sampling weight of a set: size ** alpha")
    steps_per_epoch: int | None = Field(default=None, ge=1)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)

    @model_validator(mode="after")
    def _whole(self) -> StageConfig:
        needs_teacher = False
        for number, set_config in enumerate(self.sets):
            try:
                objective = self.objective_of(set_config)
            except ValidationError as error:
                raise ValueError(f"sets.{number}.objective: {describe_error(error, ObjectiveConfig)}") from None
            needs_teacher |= objective.needs_teacher
            if not objective.contrastive_weight and not objective.terms:
                raise ValueError(f"sets.{number}: objective.contrastive_weight is 0 and no term has a weight; set one")
            if objective.needs_block and set_config.blocks is None:
                raise ValueError(
                    f"sets.{number}: objective.block reads blocks; write `blocks: {{}}` in the set, or "
                    "`objective: {block: {weight: 0}}`"
                )
        if needs_teacher != (self.teacher is not None):
            weights = " or ".join(f"`objective.{name}.weight`" for name in self.objective.teacher_terms)
            raise ValueError(
                f"`teacher` and {weights} go together: set both or neither (objective.block reads it "
                "with targets: teacher)"
            )
        if self.trainer.evaluate is None and not self.has_known_items:
            if self.trainer.end_with == "best":
                raise ValueError("trainer.end_with: best needs trainer.evaluate, which decides the best checkpoint")
            if self.trainer.patience is not None:
                raise ValueError("trainer.patience needs trainer.evaluate, which says what is better")
        return self

    @model_validator(mode="after")
    def _names(self) -> StageConfig:
        names = [set_config.called for set_config in self.sets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            numbers = " and ".join(f"sets.{number}" for number, name in enumerate(names) if name == twice)
            raise ValueError(f"{numbers} are both called {twice!r}; give each its own `name`")
        return self

    @model_validator(mode="after")
    def _weights(self) -> StageConfig:
        weighted = [set_config.weight is not None for set_config in self.sets]
        if any(weighted) and not all(weighted):
            raise ValueError("give every set a weight, or none of them")
        if all(set_config.weight == 0 for set_config in self.sets):
            raise ValueError("the weight of every set is 0, so there is nothing to train on; give one a larger weight")
        if not math.isfinite(sum(set_config.weight or 0.0 for set_config in self.sets)):
            raise ValueError("the weights of the sets have no finite sum; give smaller ones")
        return self

    has_known_items: ClassVar[bool] = False  # whether a run has items of its own that checkpoints can be judged by

    def objective_of(self, set_config: SetConfig) -> ObjectiveConfig:
        """The stage's objective with what the set overrides."""
        return self.objective.overridden(set_config.objective)

    def training(self) -> str:
        """What the training depends on, as JSON; what happens to its result afterwards is left out."""
        return self.model_dump_json(exclude={"interpolate", "interpolation", "known_items"})


def _adapters() -> TrainerConfig:
    """What LLM2Vec trains with (BehnamGhader et al. 2024, appendix)."""
    lora = LoraConfig(rank=16, alpha=32, dropout=0.05)
    return TrainerConfig(batch_size=32, max_steps=1000, learning_rate=5e-5, max_seq_length=512, lora=lora)


#: Settings of the trainer that masked next-token prediction has no use for, and why.
_NOT_OF_MNTP = {
    "evaluate": "evaluates nothing",
    "patience": "evaluates nothing",
    "end_with": "evaluates nothing",
    "trackers": "writes its metrics to a file alone",
    "compile": "runs without torch.compile",
    "parallel": "runs in one process",
    "padding_free": "packs nothing",
    "grad_cache": "keeps no batch of pairs",
}


class MntpConfig(Section):
    """Masked next-token prediction on the corpus, for a language model that was made bidirectional (LLM2Vec)."""

    enabled: bool = False
    path: str | None = Field(default=None, description="corpus to learn from, as for corpus.path; default: the run's")
    mask_token: str | None = Field(
        default=None, min_length=1, description='token that stands for a hidden one; default: the tokenizer\'s, or "_"'
    )
    probability: float = Field(default=0.2, gt=0, lt=1, description="share of the tokens that are hidden")
    random: float = Field(default=0.1, ge=0, le=1, description="share of these that a random token stands for")
    kept: float = Field(default=0.1, ge=0, le=1, description="share of these that stay as they are")
    trainer: TrainerConfig = Field(default_factory=_adapters)

    @field_validator("trainer", mode="before")
    @classmethod
    def _partly_given(cls, trainer: Any) -> Any:
        """What a recipe leaves out is as where it says nothing, as ``--set mntp.trainer.max_steps=60`` has it."""
        if not isinstance(trainer, dict):
            return trainer
        usual = _adapters().model_dump(exclude_unset=True)
        for given, instead in (("epochs", "max_steps"), ("frozen_layers", "lora")):
            if trainer.get(given):
                usual.pop(instead, None)
        return usual | trainer

    @model_validator(mode="after")
    def _whole(self) -> MntpConfig:
        if self.random + self.kept > 1:
            raise ValueError("random and kept are shares of the hidden tokens; together they are at most 1")
        usual = TrainerConfig()
        for name, why in _NOT_OF_MNTP.items():
            if getattr(self.trainer, name) != getattr(usual, name):
                raise ValueError(f"trainer.{name}: masked next-token prediction {why}; leave it out")
        if self.trainer.frozen_layers:
            raise ValueError("trainer.frozen_layers: masked next-token prediction trains all layers; leave it out")
        return self


class KnownItemsConfig(Section):
    """Items that nothing trains on and that are not the test: by them a run chooses what it saves."""

    titles: int = Field(default=100, ge=0, description="titles to find the passage by; at most `share` of the corpus'")
    queries: int = Field(
        default=100, ge=0, description="rows of FRet: queries, and lists of candidates; at most `share` of the rows"
    )
    words: int = Field(default=200, ge=0, description="passages to find by a few words drawn from them")
    share: float = Field(default=0.1, gt=0, le=0.5, description="most that is taken from training")
    documents: int = Field(default=500, ge=2, description="size of the pools that are searched")


class FinetuneConfig(StageConfig):
    """Fine-tuning, and what is saved of it: never a model that is worse than the one it started from."""

    has_known_items: ClassVar[bool] = True

    interpolate: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = Field(
        default="auto",
        description="how far to go from the start model to the trained one: 0 to 1; auto: as known items support; "
        "null: the trained one",
    )
    interpolation: Literal["linear", "slerp"] = Field(
        default="linear", description="the way there; slerp: on the sphere, tensor by tensor"
    )
    known_items: KnownItemsConfig = Field(default_factory=KnownItemsConfig)

    @property
    def evaluates_known_items(self) -> bool:
        """Whether training asks the known items which checkpoint is best."""
        trainer = self.trainer
        return trainer.evaluate is None and (trainer.patience is not None or trainer.end_with == "best")

    @property
    def needs_known_items(self) -> bool:
        """Whether items are set apart."""
        return self.interpolate == "auto" or self.evaluates_known_items


#: What a section of a recipe trains on where it does not name its sets.
_SETS: dict[str, dict[str, Any]] = {
    "prefinetune": {"sets": [{"source": "title-body"}], "objective": {"same_tower": False, "hard_negatives": 0}},
    "finetune": {"sets": [{"source": "fret"}]},
}


def _on_default_sets(section: dict[str, Any], default: dict[str, Any]) -> dict[str, Any]:
    given = section.get("objective", {})
    objective = {**default.get("objective", {}), **given} if isinstance(given, dict) else given
    return {**default, **section, "objective": objective}


class Recipe(Section):
    """The whole journey: a corpus, two stages of training with FRet between them, evaluation after each."""

    name: str = "recipe"
    output: str | None = Field(default=None, description="default: runs/<name> in the current folder")
    seed: int = Field(default=0, ge=0)
    corpus: CorpusConfig = Field(default_factory=CorpusConfig)
    student: StudentConfig = Field(default_factory=StudentConfig)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    mntp: MntpConfig = Field(default_factory=MntpConfig)
    prefinetune: StageConfig = Field(default_factory=lambda: StageConfig.model_validate(_SETS["prefinetune"]))
    fret: FretConfig = Field(default_factory=FretConfig)
    finetune: FinetuneConfig = Field(default_factory=lambda: FinetuneConfig.model_validate(_SETS["finetune"]))

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError(f"{name!r} has control characters; a folder and its charts are named by it")
        return name

    @model_validator(mode="before")
    @classmethod
    def _default_sets(cls, values: Any) -> Any:
        """A section that says how to train and not on what, as ``--set prefinetune.trainer.max_steps=3`` makes it."""
        if not isinstance(values, dict):
            return values
        missing = {
            name: _on_default_sets(values[name], default)
            for name, default in _SETS.items()
            if isinstance(values.get(name), dict) and "sets" not in values[name]
        }
        return values | missing

    @property
    def folder(self) -> Path:
        """The output folder.

        Raises:
            DataError: it is below the home of a user that there is not.
        """
        return user_path(self.output or f"runs/{self.name}")


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
    known = sorted({path.stem for folder in (packaged, checkout) for path in folder.glob("*.yaml")})
    raise ConfigError(f"no recipe called {name!r}; give the path of a YAML file, or one of: {', '.join(known)}")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``a.b=c`` overrides (values are YAML; ``sets.0.limit=5`` reaches into lists).

    Raises:
        ConfigError: the file is missing, not UTF-8, not YAML or without any key, a key is unknown or a value is wrong.
            The message names the key's path and, for an unknown key, the nearest valid one.
    """
    # The defaults are hours of work: an empty file has not asked for them.
    return load_settings(Recipe, path, overrides, what="recipe", may_be_empty=False)


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Validate the values of a recipe.

    Raises:
        ConfigError: one line for the first thing that is wrong.
    """
    return parse_settings(Recipe, values, where)


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out, ready to be run again."""
    return dump_settings(recipe)
