"""What a build consists of: the stages, what each depends on, and how many parts it has."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gecko_fret.build.models import Models
from gecko_fret.config import FretConfig, LLMConfig
from gecko_fret.corpus.contamination import content_fingerprint
from gecko_fret.corpus.passages import Corpus
from gecko_fret.prompting import PromptSet, load_prompts
from gecko_fret.steps.write import kind_weights

# Settings that change how fast a result comes, not what it is: they may change between runs of one build.
_LLM_SPEED = {
    "batch_tokens",
    "batch_rows",
    "device",
    "concurrency",
    "timeout_s",
    "retries",
    "retry_pause_s",
    "gpu_memory_utilization",
}
_LLM_SPEED |= {"url", "api_key_env", "max_model_len"}
_FILTER_KEYS = {"min_words", "max_words", "max_copied", "language", "keep"}


def generators(config: FretConfig) -> list[LLMConfig]:
    """The LLMs that write."""
    return config.generators or [config.llm]


def fingerprints(config: FretConfig, corpus: Corpus, models: Models) -> dict[str, str]:
    """A hash per stage over all that its output depends on, earlier stages included.

    Two builds whose fingerprint of a stage is the same write the same parts for it.
    """
    write_prompts, score_prompts = load_prompts(config.generate.prompt), load_prompts(config.score.prompt)
    embedder = models.embedder_fingerprint(config.embedder)
    retrieve = config.retrieve.model_dump(exclude={"cache"})
    own: dict[str, Any] = {
        "corpus": [corpus.hash, config.corpus.part_size],
        "write": [
            config.seed,
            config.generate.model_dump(exclude=_FILTER_KEYS),
            write_prompts.hash,
            [(_llm_key(llm), models.llm_fingerprint(llm), llm.weight) for llm in generators(config)],
        ],
        "filter": [config.generate.model_dump(include=_FILTER_KEYS), retrieve["part_size"]],
        "embed": [embedder, config.embedder.prompt_style],
        "retrieve": [retrieve],
        "score": [
            config.score.model_dump(),
            score_prompts.hash,
            _llm_key(config.llm),
            models.llm_fingerprint(config.llm),
        ],
        "mine": [
            config.seed,
            config.mine.model_dump(exclude={"decontaminate"}),
            [content_fingerprint(source) for source in config.mine.decontaminate],
        ],
    }
    above = {
        "corpus": [],
        "write": ["corpus"],
        "filter": ["write"],
        "embed": ["corpus", "filter"] if config.retrieve.first_pass else ["corpus"],
        "retrieve": ["filter", "embed"],
        "score": ["retrieve"],
        "mine": ["score"],
    }
    found: dict[str, str] = {}
    for stage, value in own.items():
        found[stage] = _digest([stage, value, [found[name] for name in above[stage]]])
    return found


def prompt_hashes(config: FretConfig) -> dict[str, str]:
    """Hashes of the two prompt files, for the manifest."""
    return {
        "generate": load_prompts(config.generate.prompt).hash,
        "score": load_prompts(config.score.prompt).hash,
    }


def check_prompts(config: FretConfig) -> None:
    """Raises `ConfigError` where the configuration asks for what its prompts do not have, before anything is done."""
    writing, scoring = prompt_sets(config)
    kind_weights(writing, config.generate)
    if config.score.mode == "joint":
        scoring.joint_scoring("", "")


def seed_count(config: FretConfig, corpus: Corpus) -> int:
    """How many seed passages the build uses."""
    return len(corpus) if config.generate.seeds is None else min(config.generate.seeds, len(corpus))


def part_count(rows: int, part_size: int) -> int:
    """Parts that `rows` rows fill."""
    return -(-rows // part_size)


def prompt_sets(config: FretConfig) -> tuple[PromptSet, PromptSet]:
    """(the prompts for writing, the prompts for scoring)."""
    return load_prompts(config.generate.prompt), load_prompts(config.score.prompt)


def _llm_key(config: LLMConfig) -> dict[str, Any]:
    return config.model_dump(exclude=_LLM_SPEED | {"weight"})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
