"""The configuration section of a language model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from gecko_core.io import Section
from gecko_fret.llm import BACKENDS


class LLMConfig(Section):
    """A language model and the backend that runs it."""

    backend: str = Field(default="transformers", description=f"one of {', '.join(BACKENDS)}")
    model: str = Field(
        default="smollm2-135m-instruct", description="a folder, a packaged model, a hub id; the served name"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str | None = None
    batch_tokens: int = Field(
        default=8192, ge=64, description="padded tokens of one forward pass, the shared prefix not counted"
    )
    batch_rows: int = Field(default=64, ge=1, description="most rows of one forward pass")
    weight: float = Field(default=1.0, gt=0, description="share of the queries, where several generators are mixed")
    url: str | None = Field(
        default=None, description="openai: base URL of the server, such as http://127.0.0.1:8000/v1"
    )
    tokenizer: str | None = Field(
        default=None, description="openai: folder or hub id of the tokenizer; unset: text is sent"
    )
    api_key_env: str = Field(default="OPENAI_API_KEY", description="openai: environment variable with the key")
    concurrency: int = Field(default=8, ge=1, description="openai: requests in flight")
    timeout_s: float = Field(default=120.0, gt=0, description="openai: one request")
    retry_pause_s: float = Field(default=0.5, ge=0, description="openai: the first pause; it doubles every time")
    send_seed: bool = Field(
        default=True, description="vllm, openai: send a seed with every request; vLLM on CPU accepts none"
    )
    retries: int = Field(default=8, ge=0, description="openai: attempts after the first, with growing pauses")
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1, description="vllm")
    max_model_len: int = Field(default=2048, ge=64, description="vllm")

    @field_validator("backend")
    @classmethod
    def _backend_is_known(cls, name: str) -> str:
        if name not in BACKENDS:
            raise ValueError(f"{name!r} is no backend; use one of {', '.join(BACKENDS)}")
        return name

    @model_validator(mode="after")
    def _server_needs_url(self) -> LLMConfig:
        if self.backend == "openai" and not self.url:
            raise ValueError("the openai backend needs llm.url, such as http://127.0.0.1:8000/v1")
        return self
