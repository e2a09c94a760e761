"""The models that a configuration names, each loaded once, and what tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from gecko_fret.config import EmbedderConfig
from gecko_fret.llm import LLM, LOCAL, SERVED, is_served, llm_fingerprint, load_llm
from gecko_fret.llm.capabilities import Capabilities
from gecko_fret.llm.config import LLMConfig
from gecko_fret.llm.lanes import answers_until_now
from gecko_fret.llm.loading import model_content, tokenizer_content, weights_fingerprint

Model = TypeVar("Model")

#: Settings that change how fast a result comes, not what it is: they may change between runs of one build.
LLM_SPEED = {
    "api_key_env",
    "api_key_file",
    "api_version",
    "batch_rows",
    "batch_tokens",
    "budget_tokens",
    "budget_usd",
    "concurrency",
    "device",
    "gpu_memory_utilization",
    "max_model_len",
    "max_tokens_key",
    "preset",
    "requests_per_minute",
    "retries",
    "retry_pause_s",
    "timeout_s",
    "tokens_per_minute",
    "url",
    "usd_per_million_read",
    "usd_per_million_written",
}

#: Settings that version 0.1 had not: a fingerprint holds those that ask for something else than it did.
_LLM_SINCE = ("api", "extra_body", "omit", "response_schema", "samples", "thinking_tokens")


@dataclass
class Asked:
    """Contents of models and, where a server has the model, of its tokenizer.

    Attributes:
        models: see :func:`~gecko_fret.llm.loading.model_content`.
        tokenizers: see :func:`~gecko_fret.llm.loading.tokenizer_content`.
    """

    models: list[str] = field(default_factory=list)
    tokenizers: list[str] = field(default_factory=list)


class Models:
    """LLMs and the embedder of a build, loaded when first asked for and kept until ``close``.

    Args:
        llms: ready-made LLMs by model name, used instead of what the configuration names.
        embedder: a ready-made embedder, likewise.
    """

    def __init__(self, llms: dict[str, LLM] | None = None, embedder: Any = None):
        self._ready = dict(llms or {})
        self._ready_embedder = embedder
        self._llms: dict[str, LLM] = {}
        self._servers: dict[str, str] = {}
        self._embedders: dict[str, Any] = {}
        self._others: dict[str, Any] = {}
        self._records: dict[str, Any] = {}
        self._asked: Asked | None = None  # None: nobody listens
        self._contents: dict[tuple[str, str], str] = {}

    @contextmanager
    def asking(self) -> Iterator[Asked]:
        """Yield the contents of what is asked for by fingerprint."""
        asked = Asked()
        self._asked = asked
        try:
            yield asked
        finally:
            self._asked = None

    def _ask(self, model: str) -> None:
        if self._asked is not None:
            self._asked.models.append(self._content(model, model_content))

    def _content(self, name: str, of: Callable[[str], str]) -> str:
        key = (of.__name__, name)
        if key not in self._contents:
            self._contents[key] = of(name)
        return self._contents[key]

    def weights_fingerprint(self, model: str) -> str:
        """Hash of a model's weight files, or its hub id; all that decides its answers counts as asked for.

        Raises:
            ModelError: the name resolves nowhere, or the folder has no weights.
        """
        self._ask(model)
        return weights_fingerprint(model)

    def llm(self, config: LLMConfig) -> LLM:
        """The LLM of a configuration section.

        Raises:
            ModelError: it cannot be loaded.
            BackendError: its server or engine does not work.
        """
        if config.model in self._ready:
            return self._ready[config.model]
        key = config.model_dump_json(exclude={"weight"})
        if key not in self._llms:
            llm = load_llm(config)
            if is_served(llm):
                known = self._records.get(_server(config), {})
                # Several sections may ask one server; what was spent on it counts on with the first of them.
                llm.recall(known | {"spent": {}} if known and _server(config) in self._servers.values() else known)
            self._llms[key] = llm
            self._servers[key] = _server(config)
        return self._llms[key]

    def answered(self) -> int:
        """How many requests the LLMs have answered in this process."""
        return sum(answers_until_now(llm.usage) for llm in [*self._ready.values(), *self._llms.values()])

    def recall(self, records: Mapping[str, Any]) -> None:
        """Let LLMs behind servers go on where an earlier run was; see ``records``. Before one of them is loaded."""
        self._records = dict(records)

    def records(self) -> dict[str, Any]:
        """What is known of LLMs behind servers and what has been spent on them, for the manifest."""
        found: dict[str, Any] = {}
        for key, llm in self._llms.items():
            if is_served(llm):
                server, record = self._servers[key], llm.record()
                found[server] = _added(found[server], record) if server in found else record
        return found

    def spent(self) -> dict[str, tuple[int, int]]:
        """Tokens read and written by server, those of earlier runs that were recalled among them."""
        records = {name: record["spent"] for name, record in self.records().items()}
        return {name: (spent["prompt_tokens"], spent["generated_tokens"]) for name, spent in records.items()}

    def charge(self, spent: Mapping[str, tuple[int, int]]) -> None:
        """Count what other processes have spent; see ``spent``."""
        left = dict(spent)
        for key, llm in self._llms.items():
            if self._servers[key] in left and is_served(llm):
                llm.charge(*left.pop(self._servers[key]))

    def capabilities(self, config: LLMConfig) -> Capabilities | None:
        """What the server of an LLM can do; None for an LLM that is no server's, or ready-made.

        Raises:
            BackendError: the server cannot be reached, or does not write.
        """
        if config.backend not in SERVED or config.model in self._ready:
            return None
        llm = self.llm(config)
        return llm.capabilities if is_served(llm) else None

    def llm_fingerprint(self, config: LLMConfig) -> str:
        """What decides the LLM's answers (backend, weights, arithmetic), known without loading it."""
        if config.model in self._ready:
            return self._ready[config.model].fingerprint
        if config.backend in LOCAL:
            self._ask(config.model)
        elif config.tokenizer and self._asked is not None:
            self._asked.tokenizers.append(self._content(config.tokenizer, tokenizer_content))
        return llm_fingerprint(config)

    def embedder(self, config: EmbedderConfig) -> Any:
        """The embedder of a configuration section.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self._ready_embedder is not None:
            return self._ready_embedder
        key = config.model_dump_json()
        if key not in self._embedders:
            self._embedders[key] = load_embedder(config)
        return self._embedders[key]

    def has_llm(self, config: LLMConfig) -> bool:
        """Whether a ready-made LLM stands for the one of a configuration section."""
        return config.model in self._ready

    @property
    def has_embedder(self) -> bool:
        """Whether a ready-made embedder stands for the configured one."""
        return self._ready_embedder is not None

    def keep(self, name: str, make: Callable[[], Model]) -> Model:
        """A model, or statistics, that one judge alone needs: what ``make`` returned first, until ``close``."""
        if name not in self._others:
            self._others[name] = make()
        return cast(Model, self._others[name])

    def embedder_fingerprint(self, config: EmbedderConfig) -> str:
        """What decides the embeddings, known without loading the model."""
        if self._ready_embedder is not None:
            return f"{self._ready_embedder.weights_hash()}:{self._ready_embedder.prompt_style}"
        return f"{self.weights_fingerprint(config.model)}:{config.prompt_style}"

    def interrupt(self) -> None:
        """Wait for no server any more: whatever asks one gets an error. For threads that are to end."""
        for llm in self._llms.values():
            if is_served(llm):
                llm.interrupt()

    def close(self) -> None:
        """Close the LLMs loaded here; ready-made ones stay open for the caller."""
        for llm in self._llms.values():
            llm.close()
        self._llms.clear()
        self._servers.clear()
        self._embedders.clear()
        self._others.clear()


def load_embedder(config: EmbedderConfig) -> Any:
    """Load the embedder of a configuration section, a ``gecko_core.Gecko``.

    Raises:
        ModelError: it cannot be loaded.
    """
    from gecko_core import Gecko

    embedder = Gecko.from_pretrained(config.model, device=config.device)
    if config.prompt_style != "auto":
        embedder.prompt_style = config.prompt_style
    return embedder


def llm_settings(config: LLMConfig) -> dict[str, Any]:
    """The settings of an LLM that decide what it answers, for fingerprints."""
    settings = config.model_dump(exclude=LLM_SPEED | {"weight"})
    if settings["api"] == "completions":  # what auto takes where it can, and the only one in version 0.1
        settings["api"] = "auto"
    defaults = LLMConfig().model_dump(include=set(_LLM_SINCE))
    return {name: value for name, value in settings.items() if name not in defaults or value != defaults[name]}


def _server(config: LLMConfig) -> str:
    """The name of an LLM behind a server in the manifest."""
    return f"{config.model} at {config.url} ({config.api})"


def _added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a server that two LLMs ask: what they have spent is added up."""
    spent = {name: count + other["spent"][name] for name, count in one["spent"].items()}
    dollars = [record["usd"] for record in (one, other) if "usd" in record]
    return {**other, **one, "spent": spent, **({"usd": round(sum(dollars), 6)} if dollars else {})}
