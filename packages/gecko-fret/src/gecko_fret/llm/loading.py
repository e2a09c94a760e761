"""Model files for every backend: tokenizers, fingerprints, and plain folders of GGUF models."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gecko_core.errors import DataError, ModelError, first_line
from gecko_core.folder import Resolved, resolve
from gecko_core.io import cache_folder, whole_folder

if TYPE_CHECKING:
    import torch

#: What a GGUF file is unpacked to. Of most of them bf16 keeps less than is there.
Unpacked = Literal["bfloat16", "float32"]

_WHOLE, _SAMPLES = 2**30, 256  # bytes up to which a file is read whole; MiB that are read of a larger one
_SMALL = 2**28  # bytes of a GGUF file; unpacked to float32 it is eight times as large at most
_UNPACKED: tuple[Unpacked, ...] = ("bfloat16", "float32")
_WEIGHTS = {".safetensors", ".bin", ".gguf", ".pt"}
_TOKENIZERS = {".json", ".model", ".txt", ".jinja", ".tiktoken"}
_DECIDING = {*_WEIGHTS, ".json", ".model", ".txt", ".jinja", ".py"}


def load_tokenizer(model: str) -> Any:
    """Load the tokenizer of a folder, a packaged model or a hub id.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    from gecko_core.backbones import check_tokenizer_files, check_unknown

    resolved = resolve(model)
    with suppress(DataError, OSError):  # no home, or one of somebody else: the file is read as it is
        for unpacked in (_unpacked(model, resolved, dtype) for dtype in _UNPACKED):
            if unpacked is not None and unpacked.is_dir():
                resolved = Resolved(resolved.name, path=unpacked)
                break
    options = {"gguf_file": resolved.gguf_file} if resolved.gguf_file else {}
    if resolved.path is not None:
        check_tokenizer_files(resolved.path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(resolved.path or resolved.hub_id), trust_remote_code=False, **options
        )
        check_unknown(tokenizer)
        return tokenizer
    except Exception as error:  # whatever a damaged folder makes of the library
        raise ModelError(
            f"model {model!r}: no tokenizer ({first_line(error)}); name a folder or hub id with one"
        ) from None


def load_causal_lm(model: str, dtype: torch.dtype, device: torch.device | None = None) -> Any:
    """Load a causal language model of transformers.

    Args:
        model: a folder, a packaged model or a hub id.
        dtype: of the weights.
        device: what its attention is chosen for; where the model is moved is the caller's business. Default: the CPU.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch

    device = device or torch.device("cpu")
    resolved = resolve(model)
    dtypes: dict[torch.dtype, Unpacked] = {torch.bfloat16: "bfloat16", torch.float32: "float32"}
    unpacked_as = dtypes.get(dtype)
    if unpacked_as and _is_small(resolved):
        with suppress(DataError, OSError):  # no room for it, or no home: the file is read as it is
            resolved = Resolved(resolved.name, path=Path(plain_folder(model, dtype=unpacked_as)))
    return _load(model, resolved, dtype, device)


def _load(model: str, resolved: Resolved, dtype: torch.dtype, device: torch.device) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    from gecko_core.backbones import LOADING_INFO, check_loaded, check_weights, gguf_options, named_attention
    from gecko_fret.llm.attention import attention_for

    if not resolved.gguf_file and resolved.path is not None:
        check_weights(resolved.path)
    place = str(resolved.path or resolved.hub_id)
    try:
        if resolved.gguf_file:  # its configuration takes as long to read as the model
            options = gguf_options(resolved.gguf_file)
            loaded, info = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, trust_remote_code=False, **options, **LOADING_INFO
            )
            check_loaded(Path(place) / resolved.gguf_file, loaded, info)
            loaded.set_attn_implementation(attention_for(loaded.config, device))
            return loaded
        config = AutoConfig.from_pretrained(place, trust_remote_code=False)
        attentions = [attention_for(config, device), named_attention(AutoModelForCausalLM, config)]
        for attention in attentions:
            try:
                loaded, info = AutoModelForCausalLM.from_pretrained(
                    place, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True,
                    attn_implementation=attention, **LOADING_INFO,
                )  # fmt: skip
                break
            # Some models (Falcon, StableLM) look their attention up in a table of their own.
            except KeyError as error:
                if error.args != (attention,) or attention == attentions[-1]:
                    raise
        check_loaded(place, loaded, info)
        return loaded
    except ModelError as error:
        raise ModelError(f"LLM {model!r}: {error}") from None
    except Exception as error:  # whatever a damaged folder makes of the library
        where = "" if place == model else f" from {place}"
        raise ModelError(
            f"LLM {model!r}: cannot be loaded{where} as a causal language model ({first_line(error)})"
        ) from None


def plain_folder(model: str, cache: str | Path | None = None, dtype: Unpacked = "bfloat16") -> str:
    """A folder or hub id that servers read; a GGUF model is unpacked to safetensors, once for each dtype.

    Once, because transformers reads the header of such a file, with all its tokens, anew for the configuration, the
    tokenizer and the weights.

    Args:
        model: a folder, a packaged model or a hub id.
        cache: where unpacked models are kept; by default ``gecko-fret/models`` in the user's cache.
        dtype: of the weights that are unpacked.

    Raises:
        ModelError: the model cannot be loaded.
        DataError: the unpacked model cannot be written.
    """
    resolved = resolve(model)
    folder = _unpacked(model, resolved, dtype, cache)
    if folder is None:
        return str(resolved.path or resolved.hub_id)
    if not folder.exists():
        import torch

        from gecko_core.backbones import quiet

        with whole_folder(folder) as unfinished, quiet():
            _load(model, resolved, getattr(torch, dtype), torch.device("cpu")).save_pretrained(unfinished)
            load_tokenizer(model).save_pretrained(unfinished)
    return str(folder)


def _unpacked(model: str, resolved: Resolved, dtype: Unpacked, cache: str | Path | None = None) -> Path | None:
    """Where a GGUF model is unpacked; None for others. Another release of transformers may read the file otherwise."""
    if not resolved.gguf_file or resolved.path is None:
        return None
    from transformers import __version__

    root = (Path(cache) / "gecko-fret" if cache else cache_folder("gecko-fret")) / "models"
    kind = "" if dtype == "bfloat16" else f"-{dtype}"
    return root / f"{Path(model).stem}-{model_content(model)[:12]}-transformers-{__version__}{kind}"


def _is_small(resolved: Resolved) -> bool:
    """Whether a model is a GGUF file whose copy nobody minds; more than that is unpacked for those that need it."""
    if not resolved.gguf_file or resolved.path is None:
        return False
    with suppress(OSError):
        return (resolved.path / resolved.gguf_file).stat().st_size <= _SMALL
    return False


def weights_fingerprint(model: str) -> str:
    """Hash of a model's weight files, or its hub id.

    Raises:
        ModelError: the name resolves nowhere, or the folder has no weights.
    """
    resolved = resolve(model)
    if resolved.path is None:
        return str(resolved.hub_id)
    fingerprint = files_fingerprint(resolved.path, resolved.gguf_file)
    if not fingerprint:
        raise ModelError(f"model {model!r}: no weight files in {resolved.path}; name a folder that has them")
    return fingerprint


def model_content(model: str) -> str:
    """sha256 over the files of a model that decide what it says; its hub id where they are not on this machine.

    Files of more than 1 GiB are known by 256 MiB that are spread over them.

    Raises:
        ModelError: the name resolves nowhere.
    """
    resolved = resolve(model)
    if resolved.path is None:
        return str(resolved.hub_id)
    if resolved.gguf_file:
        files = [resolved.path / resolved.gguf_file]
    else:
        # Before everything below some folder is read.
        if not any((resolved.path / name).is_file() for name in ("config.json", "modules.json")):
            raise ModelError(f"{resolved.path}: no model (there is no config.json); name a model's folder")
        files = sorted(path for path in resolved.path.rglob("*") if path.is_file() and path.suffix in _DECIDING)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(resolved.path).as_posix()}:{path.stat().st_size}:".encode())
        _add_content(digest, path)
    return digest.hexdigest()


def tokenizer_content(model: str) -> str:
    """sha256 over the files of a folder that decide its tokens and its chat template; a hub id as it is.

    Raises:
        ModelError: the name resolves nowhere.
    """
    resolved = resolve(model)
    if resolved.path is None or resolved.gguf_file:
        return model_content(model)
    digest = hashlib.sha256()
    for path in sorted(resolved.path.iterdir()):
        if path.is_file() and path.suffix in _TOKENIZERS and not path.name.endswith(".index.json"):
            digest.update(f"{path.name}:{path.stat().st_size}:".encode())
            _add_content(digest, path)
    return digest.hexdigest()


def _add_content(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(2**20):
                digest.update(block)
            return
        for number in range(_SAMPLES):
            file.seek((size - 2**20) * number // (_SAMPLES - 1))
            digest.update(file.read(2**20))


def files_fingerprint(folder: Path, gguf_file: str | None = None) -> str:
    """Hash of names, sizes and the first and last MiB of the weight files, without reading gigabytes.

    Args:
        folder: the model's folder.
        gguf_file: the one file in it that holds the weights.

    Returns:
        32 hex digits of a sha256; empty where there are no weights.
    """
    weights = [folder / gguf_file] if gguf_file else sorted(p for p in folder.rglob("*") if p.suffix in _WEIGHTS)
    digest = hashlib.sha256()
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
            file.seek(max(0, size - 2**20))
            digest.update(file.read(2**20))
    return digest.hexdigest()[:32] if weights else ""
