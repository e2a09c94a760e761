"""The model folder: what is written, and every sentence-transformers layout that is read.

Written is sentence-transformers' *legacy* schema, because it is the one that sentence-transformers 3.4 to 6.x,
text-embeddings-inference and vLLM all read. Read are that one and the schema of sentence-transformers 5.4 and later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, RootModel

from gecko_core.backbones.files import ModelFile, check_readable, checked_model_values, is_given, read_model_file
from gecko_core.encode.quantization import Ranges, checked_dims
from gecko_core.errors import ConfigError, ModelError
from gecko_core.head import ACTIVATIONS, DenseSpec
from gecko_core.io import file_hash

POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
FORMAT = 1


_File = TypeVar("_File", bound=ModelFile)
_ARGUMENTS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
# Arguments that change no vector but by rounding, or that are set here.
_HARMLESS = {"torch_dtype", "dtype", "attn_implementation", "device_map", "low_cpu_mem_usage", "use_safetensors"}
_HARMLESS |= {"use_fast", "padding_side", "trust_remote_code", "use_cache", "token", "cache_dir", "local_files_only"}
#: What the backbone is asked for since sentence-transformers 5.4: the hidden states of every token.
_STATES = {"method": "forward", "method_output_name": "last_hidden_state"}
#: Settings of a transformer (sentence-transformers 5.4 to 6.2) to the values that ask for what is computed here.
_USUAL: dict[str, Any] = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "processing_kwargs": {},
    "query_length": None,
    "document_length": None,
    "query_expansion": None,
}
_OWN = "sentence_transformers."  # where its classes are, in whichever module of it


def _inside(path: str) -> str:
    """A path of this folder or one below it, on every system."""
    for parts in (PurePosixPath(path), PureWindowsPath(path)):
        if parts.is_absolute() or parts.drive or ".." in parts.parts or "\0" in path:
            raise ValueError(f"{path[:80]!r} is not in this folder")
    return path


class _Module(ModelFile):
    idx: int = 0
    type: str = ""
    path: Annotated[str, AfterValidator(_inside)] = ""


class _Modules(RootModel[list[_Module]]):
    pass


class _Config(ModelFile):
    prompts: dict[str, str | None] | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = Field(default=None, ge=1)


#: Whose names sentence-transformers' files of a length limit have had, in the order that it looks for them.
_FAMILIES = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")


class _BertConfig(ModelFile):
    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())

    max_seq_length: int | float | None = Field(default=None, ge=1)
    do_lower_case: bool | None = False
    # What sentence-transformers hands to transformers, by its names before and since version 5.4.
    model_args: dict[str, Any] | None = None
    model_kwargs: dict[str, Any] | None = None
    tokenizer_args: dict[str, Any] | None = None
    processor_kwargs: dict[str, Any] | None = None
    config_args: dict[str, Any] | None = None
    config_kwargs: dict[str, Any] | None = None
    modality_config: dict[str, Any] | None = None
    unpad_inputs: bool | None = None

    def unsupported(self) -> str | None:
        """A setting that changes vectors in a way that is not computed here; whatever is not known may."""
        for name in _ARGUMENTS:
            unknown = sorted(set(getattr(self, name) or {}) - _HARMLESS)
            if unknown:
                return f"{name}: {unknown[0]!r}"
        states = (self.modality_config or {}).get("text", _STATES)
        if states != _STATES:
            return f"modality_config: text by {states}"
        extra = (self.model_extra or {}).items()
        set_otherwise = ((name, value) for name, value in extra if value is not None and value != _USUAL.get(name))
        return next((f"{name}: {value!r}" for name, value in set_otherwise), None)


class _TokenizerConfig(ModelFile):
    model_max_length: int | float | None = None


class _Pooling(ModelFile):
    model_config = ConfigDict(strict=True, extra="allow")

    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True


class _DenseConfig(ModelFile):
    in_features: int = Field(gt=0)
    out_features: int = Field(gt=0)
    bias: bool = True
    activation_function: str = "torch.nn.modules.linear.Identity"
    use_residual: bool = False
    module_input_name: str = "sentence_embedding"
    module_output_name: str | None = None


class GeckoConfig(ModelFile):
    """What gecko.json says of how a model is used."""

    format: int = Field(default=FORMAT, ge=1)
    prompt_style: Literal["gecko", "plain"] = "gecko"
    dims: list[int] | None = None
    files: dict[Annotated[str, AfterValidator(_inside)], str] | None = None
    calibration: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")], Any] | None = None


@dataclass(frozen=True)
class Layout:
    """What a sentence-transformers folder says about itself.

    Attributes:
        transformer: the folder of backbone and tokenizer.
        max_seq_length: most tokens of a text, where the folder says it.
        do_lower_case: lower-case texts before they are tokenised.
        dense: the layers of the projection.
        prompts: prefixes by name, without the empty ones.
        gecko: contents of gecko.json, None for a third-party folder.
        compares: how its vectors are compared where that ranks texts otherwise than cosine does; "cosine" elsewhere.
        truncate_dim: width of its embeddings, where that is less than the model's.
    """

    transformer: Path
    max_seq_length: int | None = None
    do_lower_case: bool = False
    dense: list[DenseSpec] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    gecko: GeckoConfig | None = None
    compares: str = "cosine"
    truncate_dim: int | None = None

    def check_cosine(self, folder: Path) -> None:
        """Make sure that the model's makers compare vectors by cosine, as a Gecko does.

        Raises:
            ModelError: they do it by another measure, under which the same vectors rank texts otherwise.
        """
        if self.compares != "cosine":
            raise ModelError(
                f"{folder / 'config_sentence_transformers.json'}: compares vectors by {self.compares!r}, a Gecko by "
                "cosine; load it with sentence-transformers (gecko-eval: st:FOLDER), or train from it "
                "(Gecko.from_backbone)"
            )

    def check_widths(self, folder: Path, width: int) -> None:
        """Make sure that the layers of the projection fit to each other and to int8 ranges and widths of gecko.json.

        Args:
            folder: the model's folder, for the message.
            width: of the backbone's hidden states.

        Raises:
            ModelError: a layer that takes vectors of another width than it gets, or dims of another model.
        """
        for layer in self.dense:
            if layer.in_features != width:
                raise ModelError(f"{layer.path.parent}: takes {layer.in_features} components, and gets {width}")
            width = layer.out_features
        dims = self.gecko.dims if self.gecko else None
        if dims and max(dims) != width:
            raise ModelError(
                f"{folder / 'gecko.json'}: dims {dims}: the largest must be the model's own width, {width}"
            )


def read_layout(folder: Path) -> Layout:
    """Read the module list of a model folder and make sure that we compute what its makers meant.

    Raises:
        ModelError: a missing or unknown module list, any pooling but the plain mean, modules that are not supported.
    """
    modules = _module_list(folder)
    kinds = _module_kinds(folder, modules)
    places = [folder / module.path for module in modules]
    transformer = places[0]
    config = _optional(folder / "config_sentence_transformers.json", _Config)
    prompts = {key: value for key, value in (config.prompts or {}).items() if value}
    _check_pooling(places[1] / "config.json", bool(prompts))
    dense = [_dense_spec(place) for kind, place in zip(kinds, places, strict=True) if kind == "Dense"]
    names = (transformer / f"sentence_{family}_config.json" for family in _FAMILIES)
    bert_path = next((path for path in names if is_given(path)), transformer / "none")
    bert = _optional(bert_path, _BertConfig)
    if unsupported := bert.unsupported():
        raise ModelError(f"{bert_path}: {unsupported} is not supported; load the model with sentence-transformers")
    length = bert.max_seq_length
    if length is None:
        # Since sentence-transformers 5.4 the tokenizer's configuration holds it.
        length = _optional(transformer / "tokenizer_config.json", _TokenizerConfig).model_max_length
    gecko = folder / "gecko.json"
    return Layout(
        transformer=transformer,
        # Tokenizers write 10^30 where they know no limit.
        max_seq_length=int(length) if length is not None and 1 <= length < 10**7 else None,
        do_lower_case=bool(bert.do_lower_case),
        dense=dense,
        prompts=prompts,
        gecko=read_model_file(gecko, GeckoConfig) if is_given(gecko) else None,
        compares=_measure(config, normalized="Normalize" in kinds),
        truncate_dim=config.truncate_dim,
    )


def _measure(config: _Config, normalized: bool) -> str:
    """What ``similarity_fn_name`` means: of unit vectors products and distances rank as cosine does."""
    name = config.similarity_fn_name or "cosine"
    return "cosine" if name == "cosine" or (normalized and name in ("dot", "euclidean")) else name


def _module_list(folder: Path) -> list[_Module]:
    path = folder / "modules.json"
    if not is_given(path):
        raise ModelError(
            f"{folder}: no modules.json, so no sentence-transformers folder; load bare backbones by "
            "Gecko.from_backbone (in a recipe: student.backbone: true)"
        )
    return sorted(read_model_file(path, _Modules, list).root, key=lambda module: module.idx)


def _module_kinds(folder: Path, modules: list[_Module]) -> list[str]:
    """Names of the modules' classes, which must be ones that we compute, in an order that we compute."""
    path = folder / "modules.json"
    foreign = next((module.type for module in modules if not module.type.startswith(_OWN)), None)
    if foreign is not None:
        raise ModelError(f"{path}: {foreign!r} is no class of sentence-transformers, and code of a folder is not run")
    kinds = [module.type.rsplit(".", 1)[-1] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ModelError(f"{path}: must begin with Transformer, Pooling; found {', '.join(kinds)}")
    for kind in kinds[2:]:
        if kind not in ("Dense", "Normalize"):
            raise ModelError(f"{path}: a {kind} module is not supported; only Dense and Normalize are")
    if "Dense" in kinds and "Normalize" in kinds[: kinds.index("Dense")]:
        raise ModelError(f"{path}: a Dense after Normalize is not supported")
    return kinds


def _check_pooling(path: Path, prompted: bool) -> None:
    config = read_model_file(path, _Pooling)
    if config.pooling_mode is not None:
        chosen = [config.pooling_mode] if isinstance(config.pooling_mode, str) else config.pooling_mode
    else:
        chosen = [mode for mode in POOLING_MODES if (config.model_extra or {}).get(f"pooling_mode_{mode}")]
        chosen = ["mean" if mode == "mean_tokens" else mode for mode in chosen]
    if chosen != ["mean"]:
        raise ModelError(f"{path}: pooling by {'+'.join(chosen) or 'nothing'} is not supported; only the plain mean is")
    if prompted and not config.include_prompt:
        raise ModelError(f"{path}: include_prompt is false, and pooling that leaves the prompt out is not supported")


def _dense_spec(folder: Path) -> DenseSpec:
    config = read_model_file(folder / "config.json", _DenseConfig)
    activation = config.activation_function.rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS or not config.activation_function.startswith("torch.nn."):
        raise ModelError(
            f"{folder / 'config.json'}: activation {config.activation_function} is not one of torch.nn's "
            f"{', '.join(ACTIVATIONS)}"
        )
    if config.use_residual:
        raise ModelError(f"{folder / 'config.json'}: use_residual is not supported")
    for name in (config.module_input_name, config.module_output_name):
        if name not in ("sentence_embedding", None):
            raise ModelError(f"{folder / 'config.json'}: a Dense of {name!r} is not supported, only of the embedding")
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{folder}: no model.safetensors; pickled weights are not loaded, convert them first")
    return DenseSpec(
        path=folder / "model.safetensors",
        in_features=config.in_features,
        out_features=config.out_features,
        bias=config.bias,
        activation=activation,
    )


def _optional(path: Path, schema: type[_File]) -> _File:
    """The file, or what an empty one would hold where there is none."""
    return read_model_file(path, schema) if is_given(path) else checked_model_values({}, schema, path)


def check_files(layout: Layout, folder: Path) -> None:
    """Make sure that the weights are those that were saved with gecko.json, which has their hashes.

    Raises:
        ModelError: a file is damaged, or of another model.
    """
    for name, saved in ((layout.gecko.files if layout.gecko else None) or {}).items():
        path = folder / name
        if not path.is_file():  # moved, or cut into several; or missing, which those say who need it
            continue
        check_readable(path)
        if file_hash(path) != saved:
            raise ModelError(
                f"{path}: is not what was saved with this model (damaged, or of another one); restore it, or, if the "
                'weights were changed on purpose, remove "files" from gecko.json'
            )


def gecko_settings(layout: Layout, folder: Path) -> dict[str, Any]:
    """Return what gecko.json says of prompts, widths and int8 ranges, as arguments of ``Gecko``.

    Raises:
        ModelError: gecko.json is damaged.
    """
    if layout.gecko is None:
        return {"prompt_style": "plain"}
    where = folder / "gecko.json"
    if layout.gecko.format > FORMAT:
        raise ModelError(f"{where}: format {layout.gecko.format} is of a later gecko-core; upgrade it")
    try:
        dims = None if layout.gecko.dims is None else checked_dims(layout.gecko.dims)
    except ConfigError as error:
        raise ModelError(f"{where}: {error}") from None
    ranges = {}
    for dim, value in (layout.gecko.calibration or {}).items():
        ranges[int(dim)] = Ranges.from_json(value, str(where), width=int(dim))
    return {"prompt_style": layout.gecko.prompt_style, "dims": dims, "calibration": ranges}
