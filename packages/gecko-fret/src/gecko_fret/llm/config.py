"""The configuration section of a language model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gecko_core.io import Section
from gecko_fret.llm import BACKENDS
from gecko_fret.llm.presets import load_preset

_LOOKS_LIKE_A_KEY = re.compile(r"(?=\w*[a-z])(?=\w*[0-9])\w{20,}\Z")


class LLMConfig(Section):
    """A language model and the backend that runs it."""

    preset: str | None = Field(
        default=None, description="a server by name, such as vllm, ollama or openai: fills in what is not set here"
    )
    backend: str = Field(default="transformers", description=f"one of {', '.join(BACKENDS)}")
    model: str = Field(
        default="smollm2-135m-instruct", description="a folder, a packaged model, a hub id; the served name"
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: str | None = None
    batch_tokens: int | None = Field(
        default=None,
        ge=64,
        description="padded tokens of one forward pass, the shared prefix not counted; unset: what suits the device",
    )
    batch_rows: int | None = Field(
        default=None, ge=1, description="most rows of one forward pass; unset: what suits the device"
    )
    weight: float = Field(default=1.0, gt=0, description="share of the queries, where several generators are mixed")
    url: str | None = Field(
        default=None, description="openai: base URL of the server, such as http://127.0.0.1:8000/v1"
    )
    api: Literal["auto", "completions", "chat"] = Field(
        default="auto", description="openai: auto takes the completions API where the server has one for the model"
    )
    tokenizer: str | None = Field(
        default=None, description="openai, completions: folder or hub id of the tokenizer; unset: text is sent"
    )
    api_key_env: str = Field(default="OPENAI_API_KEY", description="openai: environment variable with the key")
    api_key_file: str | None = Field(default=None, description="openai: file with the key, instead of the variable")
    api_version: str | None = Field(default=None, description="openai: version of Azure's API; set: Azure's client")
    concurrency: int = Field(default=8, ge=1, le=4_096, description="openai: requests in flight")
    requests_per_minute: int | None = Field(default=None, ge=1, description="openai: most requests a minute")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="openai: most tokens, read and written")
    budget_tokens: int | None = Field(
        default=None, ge=1, description="openai: a build ends before it has taken more tokens, read and written"
    )
    budget_usd: float | None = Field(
        default=None, gt=0, description="openai: a build ends before it costs more; needs the prices"
    )
    usd_per_million_read: float = Field(default=0.0, ge=0, description="openai: price of a million prompt tokens")
    usd_per_million_written: float = Field(default=0.0, ge=0, description="openai: price of a million written tokens")
    timeout_s: float = Field(default=120.0, gt=0, le=86_400, description="openai: one answer, whole")
    retries: int = Field(default=8, ge=0, le=100, description="openai: attempts after the first, with growing pauses")
    retry_pause_s: float = Field(
        default=0.5,
        ge=0,
        le=3_600,
        description="openai: the longest first pause before a request is sent again, less where answers come faster; "
        "later ones grow to 8 seconds, or to this",
    )
    send_seed: bool = Field(
        default=True, description="vllm, openai: send a seed with every request; vLLM on CPU accepts none"
    )
    samples: int = Field(
        default=8, ge=1, description="openai: answers that labels are counted in, where a server gives no log-probs"
    )
    response_schema: Literal["auto", "never"] = Field(
        default="auto",
        description="openai, chat: auto asks for queries and orders as JSON by a schema where the server takes one",
    )
    thinking_tokens: int = Field(
        default=0,
        ge=0,
        description="openai: tokens that a model may think before it answers, where it cannot be stopped",
    )
    max_tokens_key: str = Field(default="max_tokens", description="openai: what the server calls the most tokens")
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="openai: sent with every request, such as what switches thinking off"
    )
    omit: list[str] = Field(
        default_factory=list, description="openai: parameters that the server refuses, such as temperature: never sent"
    )
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1, description="vllm")
    max_model_len: int = Field(default=2048, ge=64, description="vllm")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("preset"), str):
            return values
        filled = load_preset(values["preset"]) | dict(values)
        if "model" not in filled:
            raise ValueError(f"preset {values['preset']} needs llm.model, the model's name at the server")
        return filled

    @field_validator("backend")
    @classmethod
    def _backend_is_known(cls, name: str) -> str:
        if name not in BACKENDS:
            raise ValueError(f"{name!r} is no backend; use one of {', '.join(BACKENDS)}")
        return name

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):  # the key itself, perhaps: it must not be shown
            raise ValueError("is no name of an environment variable; put the key into a variable and name that")
        if name not in os.environ and _LOOKS_LIKE_A_KEY.match(name):
            raise ValueError(
                "looks like a key, and no variable is called so; put the key into a variable and name that"
            )
        return name

    @field_validator("url")
    @classmethod
    def _is_a_server_without_secrets(cls, url: str | None) -> str | None:
        if url is None:
            return url
        faulty = "is no address of a server; write it as http://host:port/v1 or https://host/v1"
        try:
            parts = urlsplit(url)
            named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # brackets that do not close, a port that is no number
            raise ValueError(faulty) from None
        if "@" in parts.netloc or parts.query:
            raise ValueError(
                "has a user, a password or parameters in it, which would be written into every folder; leave them out, "
                "a key goes into the variable that llm.api_key_env names"
            )
        if not named or not url.isprintable() or " " in url:
            raise ValueError(faulty)
        return url

    @model_validator(mode="after")
    def _budget_has_prices(self) -> LLMConfig:
        if self.budget_usd is not None and not (self.usd_per_million_read or self.usd_per_million_written):
            raise ValueError("budget_usd needs usd_per_million_read and usd_per_million_written, the server's prices")
        return self

    @model_validator(mode="after")
    def _server_needs_url(self) -> LLMConfig:
        if self.backend == "openai" and not self.url:
            raise ValueError("the openai backend needs llm.url, such as http://127.0.0.1:8000/v1")
        return self

    @model_validator(mode="after")
    def _says_nothing_to_servers_that_it_does_not_ask(self) -> LLMConfig:
        if self.backend != "openai":
            for name, of_field in type(self).model_fields.items():
                if (of_field.description or "").startswith("openai") and getattr(self, name) != of_field.get_default(
                    call_default_factory=True
                ):
                    raise ValueError(
                        f"{name} is for servers, and llm.backend {self.backend} asks none; set llm.backend: openai or "
                        "llm.preset, or leave it out"
                    )
        return self

    @property
    def is_chat(self) -> bool:
        """Whether it is asked over a chat API, which gives no log-probabilities of prompts."""
        return self.backend == "openai" and self.api == "chat"
