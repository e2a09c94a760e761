"""Language models behind one protocol: write completions, score continuations and labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gecko_fret.llm.protocol import (
    LLM,
    Backend,
    ChatLLM,
    Completion,
    Dialogue,
    Sampling,
    Scored,
    ScoreRequest,
    ServedLLM,
    Usage,
    WriteRequest,
    is_served,
)

if TYPE_CHECKING:
    from gecko_fret.llm.config import LLMConfig

#: Values of ``llm.backend``, with the class behind each. To add a backend, write its file and put it here.
BACKENDS = {
    "transformers": "gecko_fret.llm.transformers.TransformersLLM",
    "vllm": "gecko_fret.llm.vllm.VllmLLM",
    "openai": "gecko_fret.llm.openai.OpenAILLM",
}

#: Backends that read a model folder, whose files say whether it is still the same model.
LOCAL = {"transformers", "vllm"}

#: Backends of class ``ServedLLM``: what their servers can do is found out before a build.
SERVED = {"openai"}

#: Backends whose ``generate`` knows ``Sampling.contrast``: it needs every token's probability at every step.
CONTRASTIVE = {"transformers"}

__all__ = [
    "BACKENDS",
    "CONTRASTIVE",
    "LLM",
    "LOCAL",
    "SERVED",
    "Backend",
    "ChatLLM",
    "Completion",
    "Dialogue",
    "Sampling",
    "ScoreRequest",
    "Scored",
    "ServedLLM",
    "Usage",
    "WriteRequest",
    "is_served",
    "llm_fingerprint",
    "load_llm",
]


def load_llm(config: LLMConfig) -> LLM:
    """Load the LLM of a configuration section.

    Raises:
        ModelError: the model cannot be loaded, or its backend is not installed.
        BackendError: its server or engine does not work.
    """
    return _backend(config.backend).load(config)


def llm_fingerprint(config: LLMConfig) -> str:
    """What decides the LLM's answers (backend, weights, arithmetic), known without loading it.

    Raises:
        ModelError: the model's name resolves nowhere.
    """
    return _backend(config.backend).fingerprint_of(config)


def _backend(name: str) -> type[Backend]:
    module, _, attribute = BACKENDS[name].rpartition(".")
    return getattr(import_module(module), attribute)
