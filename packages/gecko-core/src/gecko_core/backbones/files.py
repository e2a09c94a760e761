"""The files of a model folder, looked at before any library acts on them: JSON of the right types, safetensors alone.

A folder from elsewhere is read as data. What could make a library do more (an index that names a pickle or a file of
another folder, an adapter that stands for another model, code of the model's makers, an attention kernel that is
fetched by name) is refused, or set by the caller in so many words.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator, model_validator

from gecko_core.errors import PANIC, GeckoError, ModelError, first_line
from gecko_core.io import describe_error, is_special, read_json

_CURE = "fetch the model again"
_READ = {".json", ".safetensors", ".gguf", ".txt", ".model"}
_WEIGHT_FILE = re.compile(r"[\w.\-]+\.safetensors")
_PLAIN_NAME = re.compile(r"[\w.\-]+")
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|block)\.(\d+)\.")
_SHARE = re.compile(r"dropout(?:_prob|_rate)?$|_pdrop$")
_EPSILON = re.compile(r"(?:^|_)(?:eps|epsilon)$")
_FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors names them
_PICKLES = ("*.bin", "*.pt", "*.h5", "*.msgpack")


class ModelFile(BaseModel):
    """Keys of a JSON file that are read here; others are somebody else's. No type is converted."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())  # for `model_type`, pydantic 2.9


File = TypeVar("File", bound=BaseModel)


class BackboneConfig(ModelFile):
    """What must hold of any backbone's config.json; the rest is for transformers to check."""

    model_type: str = ""
    hidden_size: int | None = Field(default=None, gt=0)
    num_attention_heads: int | None = Field(default=None, gt=0)
    num_key_value_heads: int | None = Field(default=None, gt=0)
    vocab_size: int | None = Field(default=None, gt=0)
    # How many layers, by the names that BERT, T5 and DistilBERT have for it.
    num_hidden_layers: int | None = Field(default=None, gt=0)
    num_layers: int | None = Field(default=None, gt=0)
    n_layers: int | None = Field(default=None, gt=0)
    max_position_embeddings: int | None = Field(default=None, gt=0)
    pad_token_id: int | None = None
    dtype: str | None = None
    torch_dtype: str | None = None
    quantization_config: dict[str, Any] | None = None
    # By name; transformers 4 takes a number and fails at the first text.
    hidden_act: str | None = None
    hidden_activation: str | None = None
    activation: str | None = None
    activation_function: str | None = None
    feed_forward_proj: str | None = None

    @field_validator("dtype", "torch_dtype")
    @classmethod
    def _is_a_dtype(cls, name: str | None) -> str | None:
        if name not in (None, "auto") and not isinstance(
            getattr(torch, str(name).removeprefix("torch."), 0), torch.dtype
        ):
            raise ValueError(f"{str(name)[:40]!r} is no dtype of torch")
        return name

    @model_validator(mode="before")
    @classmethod
    def _numbers_can_be_meant(cls, values: Any) -> Any:
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"{str(key)[:40]} is NaN")
            if _SHARE.search(str(key)) and isinstance(value, int | float) and not 0 <= value <= 1:
                raise ValueError(f"{str(key)[:40]} is {value}, and a share of what is dropped lies between 0 and 1")
            if _EPSILON.search(str(key)) and isinstance(value, int | float) and not 0 <= value < 1:
                raise ValueError(f"{str(key)[:40]} is {value}, and what a norm adds to a variance is small, below 1")
        return values

    @model_validator(mode="after")
    def _heads_share(self) -> BackboneConfig:
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        if heads and shared and heads % shared:
            raise ValueError(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({shared})")
        return self


class _Index(ModelFile):
    weight_map: dict[str, str]


class _Tokenizer(BaseModel):
    post_processor: Any = None

    @field_validator("post_processor")
    @classmethod
    def _knows_its_tokens(cls, value: Any) -> Any:
        """A template that names a token which is not described ends tokenizers with a panic."""
        found = value if isinstance(value, dict) else {}
        steps = found.get("processors") if found.get("type") == "Sequence" else [found]
        for step in steps if isinstance(steps, list) else []:
            if not isinstance(step, dict) or step.get("type") != "TemplateProcessing":
                continue
            special: Any = step.get("special_tokens")
            described = special if isinstance(special, dict) else {}
            for name in (*_special_tokens(step.get("single")), *_special_tokens(step.get("pair"))):
                if name not in described:
                    raise ValueError(
                        f"names the special token {str(name)[:40]!r}, which special_tokens does not describe"
                    )
        return value


def _special_tokens(pieces: Any) -> Iterator[Any]:
    for piece in pieces if isinstance(pieces, list) else []:
        special = piece.get("SpecialToken") if isinstance(piece, dict) else None
        if isinstance(special, dict):
            yield special.get("id")


class _AnyObject(RootModel[dict[str, Any]]):
    pass


def read_model_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file of a model folder.

    Args:
        path: the file.
        kind: what it must hold, ``dict`` or ``list``.

    Returns:
        The value.

    Raises:
        ModelError: the file is missing, is not JSON or holds something else.
    """
    if not path.exists():
        raise ModelError(f"{path}: missing; this folder is not a model (or its download is incomplete)")
    return read_json(path, kind, error=ModelError, cure=_CURE)


def read_model_file(path: Path, schema: type[File], kind: type = dict) -> File:
    """Read a JSON file of a model folder, and check its types.

    Args:
        path: the file.
        schema: what it must hold.
        kind: ``dict`` or ``list``.

    Raises:
        ModelError: the file is missing, is not JSON or holds something else; one line that names the key.
    """
    return checked_model_values(read_model_json(path, kind), schema, path)


def checked_model_values(values: Any, schema: type[File], where: str | Path) -> File:
    """Values of a JSON file of a model folder as what they must be.

    Raises:
        ModelError: they are something else; one line that names the key.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise ModelError(f"{where}: {describe_error(error, schema)}; {_CURE}") from None


def check_weights(folder: Path) -> None:
    """Make sure that the folder's weights are safetensors files in it, and nothing else is loaded in their place.

    Raises:
        ModelError: no safetensors; an index that names other files; an adapter, which stands for another model.
    """
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder}: holds an adapter, not a model; merge it into its base model and save that")
    check_folder(folder)
    if any(folder.glob("*.safetensors")):
        return
    others = sorted(p.name for pattern in _PICKLES for p in folder.glob(pattern))
    files = f"only {', '.join(others)}" if others else "no weights at all"
    raise ModelError(f"{folder}: no .safetensors file ({files}); pickled weights are not loaded, convert them first")


def check_dtypes(path: Path, dtypes: Mapping[str, str]) -> None:
    """Make sure that weights are no codes of a quantised model, which would be taken for numbers.

    Args:
        path: their file, for the message.
        dtypes: name of a tensor to its dtype, as safetensors names it.

    Raises:
        ModelError: they are.
    """
    for name, dtype in dtypes.items():
        if name.endswith((".weight", ".bias")) and dtype not in _FLOATS:
            raise ModelError(
                f"{path}: {name} is of {dtype}, the codes of a quantised model that config.json does not describe; use "
                "the model in float32, float16 or bfloat16"
            )


def check_layers(folder: Path, config: BackboneConfig) -> None:
    """Make sure that config.json asks for no more layers than the weights hold, before any of them is made.

    Only the headers of the safetensors files are read. Fewer layers than they hold are for the caller to refuse: names
    tell layers, but not whose they are.

    Args:
        folder: the model's folder.
        config: its config.json.

    Raises:
        ModelError: more layers, or a header that cannot be read.
    """
    from safetensors import safe_open

    held: set[int] = set()
    tensors = 0
    for path in sorted(folder.glob("*.safetensors")):
        with model_errors(path), safe_open(path, "pt") as file:
            names = list(file.keys())
            if not config.quantization_config:
                check_dtypes(path, {name: file.get_slice(name).get_dtype() for name in names})
            tensors += len(names)
            held.update(int(found[1][:20]) for found in map(_LAYER.search, names) if found)
    most = len(held) or tensors  # a family that shares one layer (ALBERT) or names it otherwise
    for key in ("num_hidden_layers", "num_layers", "n_layers"):
        asked = getattr(config, key)
        if asked is not None and asked > most:
            raise ModelError(f"{folder / 'config.json'}: {key} is {asked}, and the weights hold {most}; {_CURE}")


def check_folder(folder: Path) -> None:
    """Make sure that a model folder, subfolders included, leads a library to nothing but its own files.

    transformers loads whatever file an index names, wherever that is, and a file of another ending as a pickle; an
    attention whose name has a slash is code that it fetches from the hub.

    Raises:
        ModelError: an index or a configuration that names something else, or a file that may not be read.
    """
    for path in sorted(folder.rglob("*")):
        if path.suffix in _READ:
            check_readable(path)
    for path in sorted(folder.rglob("*.index.json")):
        allowed = _WEIGHT_FILE if path.name.endswith(".safetensors.index.json") else _PLAIN_NAME
        for name in dict.fromkeys(read_model_file(path, _Index).weight_map.values()):
            if not allowed.fullmatch(name):
                raise ModelError(f"{path}: names {name[:80]!r}; weights are safetensors files in the same folder")
            if not (path.parent / name).is_file():
                raise ModelError(f"{path}: names {name!r}, which is not there; {_CURE}")
    for path in sorted(folder.rglob("config.json")):
        for key, value in read_model_json(path).items():
            if key.endswith("_implementation") and "/" in str(value):
                raise ModelError(f"{path}: {key} {str(value)[:80]!r} is code on the hub, which is not run; remove it")


def check_readable(path: Path) -> None:
    """Tell what libraries would wait for, or call missing, or damaged."""
    if is_special(path):
        raise ModelError(f"{path}: is no file, but a pipe or a device; {_CURE}")
    if path.is_file() and not os.access(path, os.R_OK):
        raise ModelError(f"{path}: cannot be read (Permission denied); see its permissions")


def is_given(path: Path) -> bool:
    """Whether an optional file of a model folder is there.

    Raises:
        ModelError: something is there that is no file, such as a link to a file of a cache that has been removed.
            To take it for absent would give another model without a word.
    """
    if path.is_file():
        return True
    if os.path.lexists(path):
        what = "a link to nothing" if path.is_symlink() and not path.exists() else "no file"
        raise ModelError(f"{path}: is {what}; {_CURE}")
    return False


def check_tokenizer_files(folder: Path) -> None:
    """Make sure that a tokenizer's JSON files hold objects, and that it knows the special tokens that it puts in.

    Raises:
        ModelError: one that does not.
    """
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if is_given(folder / name):
            read_model_file(folder / name, _Tokenizer if name == "tokenizer.json" else _AnyObject)


def _is_utf8(path: str | Path) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def model_errors(where: str | Path) -> Iterator[None]:
    """Turn what libraries raise on broken files into a one-line ``ModelError``, whatever it is.

    transformers, tokenizers and safetensors meet a value that they did not expect with any exception of Python's.

    Args:
        where: the file or folder that the message names.

    Yields:
        Nothing.

    Raises:
        ModelError: instead of their errors.
    """
    from safetensors import SafetensorError

    try:
        yield
    except GeckoError:
        raise
    except SafetensorError as error:
        if not _is_utf8(where):
            raise ModelError(f"{where}: safetensors opens no path that is not UTF-8; rename the folder") from None
        raise ModelError(f"{where}: a safetensors file is corrupt or cut off ({first_line(error)}); {_CURE}") from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != PANIC:
            raise
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ModelError(f"{where}: cannot be loaded ({kind}{first_line(error)[:300]})") from None


def named_attention(model_class: Any, config: Any) -> str:
    """The attention to ask transformers for by name: a config may name one that is code on the hub.

    Args:
        model_class: of transformers; one of its Auto classes or a model's own.
        config: the model's configuration.

    Returns:
        ``sdpa`` where the model has it, else ``eager``: what transformers takes if nothing is named. ``eager``, too,
        where logits of the attention are capped (Gemma 2): PyTorch's fused attention leaves that out without a word.
    """
    if getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None:
        return "eager"
    mapping = getattr(model_class, "_model_mapping", None)
    own = mapping[type(config)] if mapping is not None else model_class
    own = own[0] if isinstance(own, tuple) else own
    return "sdpa" if getattr(own, "_supports_sdpa", False) else "eager"
