"""Making the models that a configuration names, each once."""

from __future__ import annotations

from typing import Any

from gecko_core.errors import ModelError
from gecko_fret.config import EmbedderConfig, LLMConfig
from gecko_fret.llm.protocol import LLM


class Models:
    """LLMs and the embedder of a build, loaded when first asked for and kept until `close`.

    llms, embedder: ready-made ones, used instead of what the configuration names (by model name for LLMs).
    """

    def __init__(self, llms: dict[str, LLM] | None = None, embedder: Any = None):
        self._given = dict(llms or {})
        self._given_embedder = embedder
        self._llms: dict[str, LLM] = {}
        self._embedders: dict[str, Any] = {}

    def llm(self, config: LLMConfig) -> LLM:
        if config.model in self._given:
            return self._given[config.model]
        key = config.model_dump_json(exclude={"weight"})
        if key not in self._llms:
            self._llms[key] = load_llm(config)
        return self._llms[key]

    def llm_fingerprint(self, config: LLMConfig) -> str:
        """What decides the LLM's answers: backend, weights and arithmetic; known without loading it."""
        if config.model in self._given:
            return self._given[config.model].fingerprint
        if config.backend == "openai":
            return f"openai:{config.model}"
        return f"{config.backend}:{weights_fingerprint(config.model)}:{config.dtype}"

    def embedder(self, config: EmbedderConfig) -> Any:
        if self._given_embedder is not None:
            return self._given_embedder
        key = config.model_dump_json()
        if key not in self._embedders:
            self._embedders[key] = load_embedder(config)
        return self._embedders[key]

    def embedder_fingerprint(self, config: EmbedderConfig) -> str:
        """What decides the embeddings, known without loading the model."""
        if self._given_embedder is not None:
            return f"{self._given_embedder.weights_hash()}:{self._given_embedder.prompt_style}"
        return f"{weights_fingerprint(config.model)}:{config.prompt_style}"

    def close(self) -> None:
        """Closes the LLMs loaded here; ready-made ones belong to their maker."""
        for llm in self._llms.values():
            llm.close()
        self._llms.clear()
        self._embedders.clear()


def load_llm(config: LLMConfig) -> LLM:
    """The LLM of a configuration section. Raises `ModelError` or `BackendError`."""
    if config.backend == "transformers":
        from gecko_fret.llm.transformers import TransformersLLM

        return TransformersLLM.load(
            config.model,
            dtype=config.dtype,
            device=config.device,
            batch_tokens=config.batch_tokens,
            batch_rows=config.batch_rows,
        )
    if config.backend == "vllm":
        from gecko_fret.llm.vllm import VllmLLM

        return VllmLLM.load(config)
    from gecko_fret.llm.openai import OpenAILLM

    return OpenAILLM.connect(config)


def load_embedder(config: EmbedderConfig) -> Any:
    """The embedder of a configuration section, a `gecko_core.Gecko`. Raises `ModelError`."""
    from gecko_core import Gecko

    embedder = Gecko.from_pretrained(config.model, device=config.device)
    if config.prompt_style != "auto":
        embedder.prompt_style = config.prompt_style
    return embedder


def weights_fingerprint(model: str) -> str:
    """Hash of a model's weight files, or its hub id. Raises `ModelError` for a name that resolves nowhere."""
    from gecko_core.folder import resolve
    from gecko_fret.llm.fingerprint import files_fingerprint

    found = resolve(model)
    if found.path is None:
        return str(found.hub_id)
    fingerprint = files_fingerprint(found.path, found.gguf_file)
    if not fingerprint:
        raise ModelError(f"model {model!r}: no weight files in {found.path}")
    return fingerprint
