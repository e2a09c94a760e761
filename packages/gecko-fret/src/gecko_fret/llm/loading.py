"""Loading a model's files with transformers, and giving GGUF models a folder that other engines read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gecko_core.errors import ModelError
from gecko_fret.llm.fingerprint import files_fingerprint


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a folder, a packaged model or a hub id. Raises `ModelError`."""
    from transformers import AutoTokenizer

    from gecko_core.folder import resolve

    found = resolve(model)
    options = {"gguf_file": found.gguf_file} if found.gguf_file else {}
    try:
        return AutoTokenizer.from_pretrained(str(found.path or found.hub_id), **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model {model!r}: no tokenizer ({reason})") from None


def plain_folder(model: str, cache: str | Path | None = None) -> str:
    """A folder or hub id that servers read: a GGUF model is unpacked to safetensors in bf16, once, into `cache`.

    cache: by default the folder `gecko-fret` of the user's cache.
    """
    from gecko_core.folder import resolve

    found = resolve(model)
    if not found.gguf_file or found.path is None:
        return str(found.path or found.hub_id)
    root = Path(cache or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gecko-fret" / "models"
    folder = root / f"{found.name}-{files_fingerprint(found.path, found.gguf_file)[:12]}"
    if not folder.exists():
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig

        loaded = AutoModelForCausalLM.from_pretrained(
            str(found.path),
            gguf_file=found.gguf_file,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
        loaded.save_pretrained(unfinished)
        load_tokenizer(model).save_pretrained(unfinished)
        try:
            unfinished.rename(folder)
        except OSError as error:  # another process was first
            if not folder.exists():
                raise ModelError(f"{folder}: the unpacked model cannot be put there ({error})") from None
    return str(folder)
