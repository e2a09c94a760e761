"""From a folder to a tokenizer and a bare backbone: safetensors or GGUF only, no remote code."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gecko_core.backbones.base import Adapter
from gecko_core.backbones.files import (
    BackboneConfig,
    check_layers,
    check_tokenizer_files,
    check_weights,
    model_errors,
    named_attention,
    read_model_file,
)
from gecko_core.backbones.finite import check_finite
from gecko_core.backbones.registry import adapter_for
from gecko_core.errors import ModelError, first_line

#: Options of ``from_pretrained`` with which it tells which tensors were there, instead of a table in the log.
LOADING_INFO: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


def load_backbone(
    folder: Path, dtype: torch.dtype, gguf_file: str | None = None, *, as_published: bool = False
) -> tuple[nn.Module, Adapter]:
    """Load a bare backbone, bidirectional and in eval mode.

    Args:
        folder: a Hugging Face model folder.
        dtype: dtype of the weights.
        gguf_file: name of the GGUF file in ``folder`` to read instead of config.json and safetensors.
        as_published: refuse one that its makers ran otherwise, see :meth:`Adapter.check_published`.

    Returns:
        The backbone, and the adapter that runs it.

    Raises:
        ModelError: a missing or unreadable config, an unsupported model type, missing or corrupt safetensors, other
            layers in them than config.json asks for, weights that are no numbers.
    """
    from transformers import AutoConfig

    extra: dict[str, Any]
    if gguf_file:
        model_type = _gguf_model_type(folder, gguf_file)
        extra = gguf_options(gguf_file)
    else:
        config = read_model_file(folder / "config.json", BackboneConfig)
        model_type = config.model_type
        check_weights(folder)
        check_layers(folder, config)
        extra = {"use_safetensors": True}
    adapter = adapter_for(model_type, folder / "config.json")
    with model_errors(folder), quiet():
        model_class = adapter.model_class()
        if not gguf_file:
            extra["config"] = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if as_published:
                adapter.check_published(extra["config"], folder)
            extra["attn_implementation"] = named_attention(model_class, extra["config"])
        model, info = model_class.from_pretrained(folder, dtype=dtype, trust_remote_code=False, **LOADING_INFO, **extra)
        check_loaded(folder / gguf_file if gguf_file else folder, model, info, optional="pooler.")
        if gguf_file:
            model.set_attn_implementation(named_attention(model_class, model.config))
    if getattr(model, "pooler", None) is not None:
        # Mean pooling has no use for BERT's pooler. Frozen, DDP does not wait for its gradient; kept, other readers of
        # the saved folder find what they look for. Where the checkpoint has none, none is made up.
        model.pooler.requires_grad_(False)
        if info["missing_keys"]:
            model.pooler = None
    try:
        adapter.prepare(model)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None
    narrow = "; take bfloat16, or float32" if dtype == torch.float16 else ""
    check_finite(model, folder / gguf_file if gguf_file else folder, f"fetch or make the model again{narrow}")
    return model.eval(), adapter


def check_loaded(where: object, model: Any, info: Mapping[str, Any], optional: str = "") -> None:
    """Check that a model got the weights that its configuration asks for, which transformers else makes up at random.

    Args:
        where: the folder or name, for the message.
        model: what was loaded with ``LOADING_INFO``.
        info: what was told beside it.
        optional: tensors with this in their names may be missing.

    Raises:
        ModelError: tensors are missing, have another shape, or belong to layers that the configuration has not.
    """
    mismatched = sorted(info.get("mismatched_keys", ()))
    if mismatched and isinstance(mismatched[0], str):  # transformers 4 tells names alone
        raise ModelError(
            f"{where}: the weights hold {mismatched[0]} in another shape than config.json asks for; fetch the model "
            "again"
        )
    if mismatched:
        name, there, asked = mismatched[0]
        there, asked = (" x ".join(map(str, shape)) for shape in (there, asked))
        raise ModelError(
            f"{where}: the weights hold {name} as {there}, and config.json asks for {asked}; fetch the model again"
        )
    missing = sorted(key for key in info["missing_keys"] if not (optional and optional in key))
    if missing:
        raise ModelError(f"{where}: the weights lack {len(missing)} tensors ({missing[0]}, ...); fetch the model again")
    surplus = _layer_tensors(model, info["unexpected_keys"])
    if surplus:
        raise ModelError(
            f"{where}: the weights hold {len(surplus)} tensors of layers that config.json does not ask for "
            f"({surplus[0]}, ...); without them its output would be another; fetch the model again"
        )


def check_modules(model: nn.Module, where: object, optional: str = "") -> None:
    """The same for a model that another library has loaded, for every part of it that comes from transformers.

    Its tokenizer must have a vocabulary, see :func:`check_unknown`.

    Args:
        model: the model.
        where: the folder or name, for the message.
        optional: tensors with this in their names may be missing.

    Raises:
        ModelError: see :func:`check_loaded`.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    tokenizer = getattr(model, "tokenizer", None)
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        try:
            check_unknown(tokenizer)
        except Exception as error:  # whatever a damaged file makes of the library
            raise ModelError(f"{where}: the tokenizer cannot be used ({first_line(error)})") from None
    inner: set[nn.Module] = set()
    for module in model.modules():
        if not isinstance(module, PreTrainedModel) or module in inner:
            continue
        inner.update(module.modules())  # such as the backbone of a classifier, which its folder holds under other names
        info = _read_again(module)
        if info is not None:
            check_loaded(where, module, info, optional)


def _read_again(module: Any) -> Mapping[str, Any] | None:
    """What is there and what is missing in a module's folder; None where it cannot be read a second time."""
    # Old sentence-transformers folders keep the backbone in a subfolder of this name.
    for subfolder in ("", "0_Transformer"):
        with suppress(OSError, ValueError), quiet():
            # On the meta device: names and shapes are read, and no tensor.
            _, info = type(module).from_pretrained(
                module.name_or_path, config=module.config, subfolder=subfolder, device_map="meta", **LOADING_INFO
            )
            return dict(info)
    return None


def load_tokenizer(folder: Path, gguf_file: str | None = None, *, as_published: bool = False) -> Any:
    """Load the folder's tokenizer, set to pad and to cut off on the right, as its files say when it is saved.

    Args:
        folder: a Hugging Face model folder.
        gguf_file: name of the GGUF file in ``folder`` that holds the tokenizer.
        as_published: cut off on the side that its makers chose.

    Returns:
        A transformers tokenizer with a padding token.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    # transformers 5 answers missing files with an empty tokenizer that turns every text into nothing.
    if not gguf_file and not any(any(folder.glob(name)) for name in VOCABULARIES):
        raise ModelError(f"{folder}: no tokenizer (looked for {', '.join(VOCABULARIES)}); fetch the model again")
    check_tokenizer_files(folder)
    options: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
    with model_errors(folder), quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
        tokenizer.padding_side = "right"
        if not as_published and tokenizer.truncation_side != "right":
            tokenizer.truncation_side = tokenizer.init_kwargs["truncation_side"] = "right"
        if tokenizer.pad_token_id is None:
            # Decoders seldom have one. Which token it is does not matter: the mask hides it.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
        tokenizer(["a"])
        check_unknown(tokenizer)
    return tokenizer


def check_unknown(tokenizer: Any) -> None:
    """Tokenise a letter that few vocabularies hold (Ugaritic's first), and see that there is a vocabulary.

    Raises:
        ModelError: there is none but special tokens: where files are missing, transformers 5 makes such a tokenizer.
        Exception: the tokenizer has no token for what it does not know, and would fail so at some user's text.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelError("its vocabulary is missing, and every word would be read as the same; fetch the model again")
    tokenizer(["\U00010380"])


def gguf_options(gguf_file: str | None) -> dict[str, Any]:
    """Return the options of ``from_pretrained`` that read a GGUF file as plain weights; none without a file.

    Before transformers 5 a GGUF file was always dequantised, and there is no ``GgufConfig``.
    """
    if gguf_file is None:
        return {}
    import transformers

    config = getattr(transformers, "GgufConfig", None)
    return {"gguf_file": gguf_file} | ({"quantization_config": config(dequantize=True)} if config is not None else {})


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its advice about unused heads while a model is loaded or saved."""
    from transformers.utils import logging as hf_logging

    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity(logging.ERROR)
    try:
        with quiet_bars():
            yield
    finally:
        hf_logging.set_verbosity(level)


@contextmanager
def quiet_bars() -> Iterator[None]:
    """Silence transformers' progress bars, but not its warnings."""
    from transformers.utils import logging as hf_logging

    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            hf_logging.enable_progress_bar()


def _layer_tensors(model: Any, names: Iterable[str]) -> list[str]:
    """Those of some tensors that belong to the backbone's own layers, not to a head or to a decoder left out.

    Angles of rotary positions and causal masks, which earlier versions of transformers saved in every layer, are
    computed anew.
    """
    modules = dict(model.named_modules())
    lists = [name for name, module in modules.items() if isinstance(module, nn.ModuleList)]
    stacks = tuple(f"{name}." for name in lists if not any(name.startswith(f"{other}.") for other in lists))
    prefix = f"{model.base_model_prefix}."

    def is_computed(name: str) -> bool:
        if name.endswith(("inv_freq", "masked_bias")):
            return True
        owner, _, last = name.rpartition(".")
        module = modules.get(owner)
        return last == "bias" and module is not None and not any(True for _ in module.parameters(recurse=False))

    spelled = {name: (name, name.removeprefix(prefix), f"{prefix}{name}") for name in names}  # with the head or without
    return sorted(
        name
        for name, ways in spelled.items()
        if any(way.startswith(stacks) for way in ways) and not any(map(is_computed, ways))
    )


def _gguf_model_type(folder: Path, gguf_file: str) -> str:
    from transformers import AutoConfig

    with model_errors(folder / gguf_file), quiet():
        return str(AutoConfig.from_pretrained(folder, gguf_file=gguf_file, trust_remote_code=False).model_type)
