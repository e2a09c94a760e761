"""Writing the model folder: everything to a folder beside it, flushed, then renamed, so that it is whole or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.backbones.files import read_model_json
from gecko_core.backbones.loading import quiet
from gecko_core.errors import ModelError
from gecko_core.folder.card import model_card
from gecko_core.folder.layout import FORMAT, POOLING_MODES
from gecko_core.io import file_hash, refuse_link, whole_folder, write_json, write_text
from gecko_core.prompts import saved_prompts

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# transformers 5 may call a tokenizer "TokenizersBackend", which older readers refuse. This is the same thing by the
# name that both know: tokenizer.json as it is. (A class of the model, BertTokenizer say, would rebuild parts of it.)
GENERIC_TOKENIZER = "PreTrainedTokenizerFast"
# Keys that transformers 5 writes for itself.
_NEW_TOKENIZER_KEYS = ("backend", "is_local", "local_files_only")
_TYPES = "sentence_transformers.models"


def write_folder(model: Gecko, path: Path, record: dict[str, Any] | None, dims: tuple[int, ...]) -> None:
    """Write a model in the layout of sentence-transformers before 5.4 (see ``layout.py``).

    Args:
        model: the model.
        path: its folder; an earlier model there is replaced in one step.
        record: how the model was made.
        dims: Matryoshka widths to announce.

    Raises:
        ModelError: ``path`` is a file, or a folder that holds something other than a model; weights that are not
            finite.
        DataError: the folder cannot be written.
    """
    model.check_finite(path)
    with _replaced_model(path) as temporary:
        with quiet():
            model.backbone.save_pretrained(temporary)
            _save_tokenizer(model, temporary)
        _patch_config(temporary / "config.json", dims, getattr(model.backbone.config, "sliding_window", None))
        modules = ["Transformer", "Pooling", *["Dense"] * len(model.head), "Normalize"]
        places = ["", *(f"{i}_{kind}" for i, kind in enumerate(modules) if i)]
        write_json(
            temporary / "modules.json",
            [
                {"idx": i, "name": str(i), "path": place, "type": f"{_TYPES}.{kind}"}
                for i, (kind, place) in enumerate(zip(modules, places, strict=True))
            ],
        )
        for place in places[1:]:
            (temporary / place).mkdir()
        write_json(temporary / "1_Pooling" / "config.json", _pooling_config(model.hidden_size))
        for layer, place in zip(model.head, places[2:-1], strict=True):
            layer.save(temporary / place)
        bert = {"max_seq_length": model.max_seq_length, "do_lower_case": model.do_lower_case}
        write_json(temporary / "sentence_bert_config.json", bert)
        write_json(temporary / "config_sentence_transformers.json", _transformers_config(model))
        hashes = {path.relative_to(temporary).as_posix(): file_hash(path) for path in temporary.rglob("*.safetensors")}
        write_json(temporary / "gecko.json", _gecko_config(model, record, dims, hashes))
        write_text(temporary / "README.md", model_card(model, record, dims))


def _pooling_config(hidden_size: int) -> dict[str, Any]:
    modes = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in POOLING_MODES}
    return {"word_embedding_dimension": hidden_size, **modes, "include_prompt": True}


def _transformers_config(model: Gecko) -> dict[str, Any]:
    return {
        "__version__": {
            "sentence_transformers": _oldest_reader(model),
            "transformers": version("transformers"),
            "pytorch": version("torch"),
        },
        "model_type": "SentenceTransformer",
        "prompts": saved_prompts() if model.prompt_style == "gecko" else dict(model.prompts),
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        **({"truncate_dim": int(model.truncate_dim)} if model.truncate_dim is not None else {}),
    }


def _oldest_reader(model: Gecko) -> str:
    """The oldest sentence-transformers that reads this folder as we do; older ones warn where they see this version.

    `is_causal` in config.json lifts a language model's mask from transformers 5 on; before, it would run causally.
    """
    return "3.4.1" if getattr(model.backbone.config, "is_causal", True) else "6.0.0"


def _gecko_config(
    model: Gecko, record: dict[str, Any] | None, dims: tuple[int, ...], hashes: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "gecko_core": _own_version(),
        "prompt_style": model.prompt_style,
        "dims": list(dims),
        "base_model": model.base_model,
        "weights": model.weights_hash(),
        "files": dict(sorted(hashes.items())),
        "calibration": {str(dim): ranges.to_json() for dim, ranges in model.calibration.items()},
        "record": record or {},
    }


def _own_version() -> str:
    try:
        return version("gecko-core")
    except PackageNotFoundError:
        from gecko_core import __version__

        return __version__


def _patch_config(path: Path, dims: tuple[int, ...], window: int | None) -> None:
    config = read_model_json(path)
    if len(dims) > 1:
        config["is_matryoshka"] = True
        config["matryoshka_dimensions"] = list(dims)
    if config.get("use_bidirectional_attention") and window:
        # Gemma 3 halves the window on loading (w // 2 + 1), and not every release of transformers undoes that here.
        config["sliding_window"] = (window - 1) * 2
    config.pop("quantization_config", None)  # left behind by a GGUF file, whose weights are plain by now
    if "dtype" in config and "torch_dtype" not in config:
        config["torch_dtype"] = config["dtype"]  # the name that transformers before 4.56 reads
    _write_sorted(path, config)


def _save_tokenizer(model: Gecko, folder: Path) -> None:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # How we last cut and padded is not a property of the model; servers set their own.
        backend.no_truncation()
        backend.no_padding()
    model.tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = read_model_json(path)
    if config.get("tokenizer_class") in (None, "TokenizersBackend"):
        config["tokenizer_class"] = GENERIC_TOKENIZER
    # The generic class would add token_type_ids, which half of the backbones do not take; for the others they are zero.
    config["model_input_names"] = ["input_ids", "attention_mask"]
    config["model_max_length"] = model.max_seq_length
    for key in _NEW_TOKENIZER_KEYS:
        config.pop(key, None)
    if isinstance(config.get("extra_special_tokens"), list):
        # transformers 4 wants a mapping under this name and the list under the other.
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    _write_sorted(path, config)


def _write_sorted(path: Path, config: Mapping[str, Any]) -> None:
    """Of a model that was saved, loaded and saved again the keys would come in another order, and so other bytes."""
    write_json(path, dict(sorted(config.items())))


@contextmanager
def _replaced_model(path: Path) -> Iterator[Path]:
    """`whole_folder` for a model: nothing but an earlier model is replaced."""
    path = Path(path)
    refuse_link(path)
    if path.exists() and not path.is_dir():
        raise ModelError(f"{path}: is a file; a model is saved to a folder")
    ours = any((path / name).is_file() for name in ("modules.json", "gecko.json"))
    if path.is_dir() and any(path.iterdir()) and not ours:
        raise ModelError(f"{path}: holds something other than a model; choose an empty or new folder")
    with whole_folder(path) as temporary:
        yield temporary
