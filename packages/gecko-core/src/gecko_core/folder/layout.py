"""The model folder: what is written, and every sentence-transformers layout that is read.

Written is sentence-transformers' *legacy* schema, because it is the one that sentence-transformers 3.4 to 6.x,
text-embeddings-inference and vLLM all read. Read are that one and the schema of sentence-transformers 5.4 and later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gecko_core.backbones.loading import read_model_json
from gecko_core.encode.quantization import Ranges
from gecko_core.errors import ModelError
from gecko_core.head import ACTIVATIONS, DenseSpec

POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """What a sentence-transformers folder says about itself.

    Attributes:
        transformer: the folder of backbone and tokenizer.
        max_seq_length: most tokens of a text, where the folder says it.
        do_lower_case: lower-case texts before they are tokenised.
        dense: the layers of the projection.
        prompts: prefixes by name, without the empty ones.
        gecko: contents of gecko.json, empty for a third-party folder.
        compares: how its vectors are compared where that ranks texts otherwise than cosine does; "cosine" elsewhere.
    """

    transformer: Path
    max_seq_length: int | None = None
    do_lower_case: bool = False
    dense: list[DenseSpec] = field(default_factory=list)
    prompts: dict[str, str] = field(default_factory=dict)
    gecko: dict[str, Any] = field(default_factory=dict)
    compares: str = "cosine"

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


def read_layout(folder: Path) -> Layout:
    """Read the module list of a model folder and make sure that we compute what its makers meant.

    Raises:
        ModelError: a missing or unknown module list, any pooling but the plain mean, modules that are not supported.
    """
    modules = _module_list(folder)
    kinds = _module_kinds(folder, modules)
    places = [folder / str(entry.get("path", "")) for entry in modules]
    transformer = places[0]
    config = _optional_json(folder / "config_sentence_transformers.json")
    prompts = {key: value for key, value in (config.get("prompts") or {}).items() if value}
    _check_pooling(places[1] / "config.json", bool(prompts))
    dense = [_dense_spec(place) for kind, place in zip(kinds, places, strict=True) if kind == "Dense"]
    bert = _optional_json(transformer / "sentence_bert_config.json")
    length = bert.get("max_seq_length")
    if length is None:
        # Since sentence-transformers 5.4 the tokenizer's configuration holds it.
        length = _optional_json(transformer / "tokenizer_config.json").get("model_max_length")
    return Layout(
        transformer=transformer,
        # Tokenizers write 10^30 where they know no limit.
        max_seq_length=int(length) if isinstance(length, int | float) and 0 < length < 10**7 else None,
        do_lower_case=bool(bert.get("do_lower_case", False)),
        dense=dense,
        prompts=prompts,
        gecko=_optional_json(folder / "gecko.json"),
        compares=_measure(config, normalized="Normalize" in kinds),
    )


def _measure(config: dict[str, Any], normalized: bool) -> str:
    """What ``similarity_fn_name`` means: of unit vectors products and distances rank as cosine does."""
    name = str(config.get("similarity_fn_name") or "cosine")
    return "cosine" if name == "cosine" or (normalized and name in ("dot", "euclidean")) else name


def _module_list(folder: Path) -> list[dict[str, Any]]:
    path = folder / "modules.json"
    if not path.exists():
        raise ModelError(
            f"{folder}: no modules.json, so no sentence-transformers folder; load bare backbones by Gecko.from_backbone"
        )
    modules = read_model_json(path, list)
    if not all(isinstance(entry, dict) for entry in modules):
        raise ModelError(f"{path}: must hold a list of modules")
    return sorted(modules, key=lambda entry: int(entry.get("idx", 0)))


def _module_kinds(folder: Path, modules: list[dict[str, Any]]) -> list[str]:
    """Names of the modules' classes, which must be ones that we compute, in an order that we compute."""
    path = folder / "modules.json"
    kinds = [str(entry.get("type", "")).rsplit(".", 1)[-1] for entry in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ModelError(f"{path}: must begin with Transformer, Pooling; found {', '.join(kinds)}")
    for kind in kinds[2:]:
        if kind not in ("Dense", "Normalize"):
            raise ModelError(f"{path}: a {kind} module is not supported; only Dense and Normalize are")
    if "Dense" in kinds and "Normalize" in kinds[: kinds.index("Dense")]:
        raise ModelError(f"{path}: a Dense after Normalize is not supported")
    return kinds


def _check_pooling(path: Path, prompted: bool) -> None:
    config = read_model_json(path)
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        chosen = [modes] if isinstance(modes, str) else list(modes)
    else:
        chosen = [mode for mode in POOLING_MODES if config.get(f"pooling_mode_{mode}")]
        chosen = ["mean" if mode == "mean_tokens" else mode for mode in chosen]
    if chosen != ["mean"]:
        raise ModelError(f"{path}: pooling by {'+'.join(chosen) or 'nothing'} is not supported; only the plain mean is")
    if prompted and not config.get("include_prompt", True):
        raise ModelError(f"{path}: include_prompt is false, and pooling that leaves the prompt out is not supported")


def _dense_spec(folder: Path) -> DenseSpec:
    config = read_model_json(folder / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.linear.Identity")).rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise ModelError(f"{folder / 'config.json'}: activation {activation} is not one of {', '.join(ACTIVATIONS)}")
    if config.get("use_residual"):
        raise ModelError(f"{folder / 'config.json'}: use_residual is not supported")
    if not (folder / "model.safetensors").is_file():
        raise ModelError(f"{folder}: no model.safetensors; pickled weights are not loaded, convert them first")
    return DenseSpec(
        path=folder / "model.safetensors",
        in_features=int(config["in_features"]),
        out_features=int(config["out_features"]),
        bias=bool(config.get("bias", True)),
        activation=activation,
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return read_model_json(path) if path.is_file() else {}


def gecko_settings(layout: Layout, folder: Path) -> dict[str, Any]:
    """Return what gecko.json says of prompts, widths and int8 ranges, as arguments of ``Gecko``.

    Raises:
        ModelError: gecko.json is damaged.
    """
    if not layout.gecko:
        return {"prompt_style": "plain"}
    where = str(folder / "gecko.json")
    style = layout.gecko.get("prompt_style", "gecko")
    if style not in ("gecko", "plain"):
        raise ModelError(f"{where}: prompt_style must be gecko or plain, not {style!r}")
    saved = layout.gecko.get("calibration") or {}
    return {
        "prompt_style": style,
        "dims": layout.gecko.get("dims"),
        "calibration": {int(dim): Ranges.from_json(value, where) for dim, value in saved.items()},
    }
