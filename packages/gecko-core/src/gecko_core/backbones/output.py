"""The output layer of a language model, which an embedder leaves behind and training on its tokens needs again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gecko_core.backbones.files import model_errors
from gecko_core.backbones.loading import LOADING_INFO, check_loaded, gguf_options, quiet
from gecko_core.errors import ModelError

_NAME = "lm_head.weight"


def output_weight(folder: Path, gguf_file: str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight of a language model's output layer that is not tied to its token embeddings.

    Args:
        folder: a Hugging Face model folder.
        gguf_file: name of the GGUF file in ``folder`` to read instead of safetensors.
        dtype: of the result.

    Returns:
        (V, D).

    Raises:
        ModelError: the folder has none, such as one that an embedder was saved in.
    """
    if gguf_file is not None:
        from transformers import AutoModelForCausalLM

        with model_errors(folder), quiet():
            loaded, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, **gguf_options(gguf_file), **LOADING_INFO
            )
            check_loaded(folder / gguf_file, loaded, info)
        weight: Tensor = loaded.get_output_embeddings().weight.detach()
        return weight
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with model_errors(path), safe_open(path, framework="pt") as file:
            if _NAME in set(file.keys()):
                tensor: Tensor = file.get_tensor(_NAME).to(dtype)
                return tensor
    raise ModelError(
        f"{folder}: has no {_NAME}, the output layer of a language model; name the folder of the language model itself"
    )
