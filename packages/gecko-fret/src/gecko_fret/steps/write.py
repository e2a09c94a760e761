"""FRet step 1: the LLM reads a seed passage and writes a task and a query for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from gecko_core.errors import ConfigError
from gecko_core.randomness import generator, seed_of, weighted_order
from gecko_fret.config import GenerateConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.llm.protocol import LLM, Sampling
from gecko_fret.prompting import PromptSet, prompt_text
from gecko_fret.steps.base import Row, StageResult

ATTEMPT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("seed_id", pa.string()),
        ("attempt", pa.int32()),
        ("kind", pa.string()),
        ("generator", pa.string()),
        ("text", pa.string()),
        ("logprob", pa.float32()),
        ("tokens", pa.int32()),
        ("finished", pa.bool_()),
    ]
)


class Generate:
    """Rows {seed_id} to raw attempts (`ATTEMPT_SCHEMA`); nothing is judged here, see `gecko_fret.steps.filter`.

    The task kinds of a seed's attempts are drawn without replacement, uniformly or by the weights given; the generator
    of each attempt is drawn by its weight. Both depend on the seed passage's id, not on the order of the work.
    """

    def __init__(
        self, corpus: Corpus, llms: Sequence[tuple[LLM, float]], prompts: PromptSet, config: GenerateConfig, seed: int
    ):
        self._corpus, self._llms, self._prompts, self._config, self._seed = corpus, llms, prompts, config, seed
        self._weights = kind_weights(prompts, config)

    def __call__(self, rows: Sequence[Row]) -> StageResult:
        plan = [attempt for row in rows for attempt in self._plan(row["seed_id"])]
        before = [(llm.usage.prompt_tokens, llm.usage.generated_tokens) for llm, _ in self._llms]
        for number, (llm, _) in enumerate(self._llms):
            self._write(llm, [attempt for attempt in plan if attempt["llm"] == number])
        after = [(llm.usage.prompt_tokens, llm.usage.generated_tokens) for llm, _ in self._llms]
        counters = {
            "prompt_tokens": sum(b[0] - a[0] for a, b in zip(before, after, strict=True)),
            "generated_tokens": sum(b[1] - a[1] for a, b in zip(before, after, strict=True)),
        }
        done = [{name: attempt[name] for name in ATTEMPT_SCHEMA.names} for attempt in plan]
        return StageResult(done, counters=counters)

    def close(self) -> None:
        for llm, _ in self._llms:
            llm.close()

    def _plan(self, seed_id: str) -> list[dict[str, Any]]:
        kinds = weighted_order(self._weights, "kind", self._seed, seed_id)
        shares = [weight for _, weight in self._llms]
        plan = []
        for attempt in range(self._config.attempts):
            identifier = f"{seed_id}/{attempt}"
            draw = generator("llm", self._seed, identifier).random() * sum(shares)
            chosen = next((i for i in range(len(shares)) if draw < sum(shares[: i + 1])), len(shares) - 1)
            plan.append(
                {
                    "id": identifier,
                    "seed_id": seed_id,
                    "attempt": attempt,
                    "kind": kinds[attempt % len(kinds)],
                    "llm": chosen,
                    "generator": self._llms[chosen][0].name,
                }
            )
        return plan

    def _write(self, llm: LLM, attempts: list[dict[str, Any]]) -> None:
        if not attempts:
            return
        config = self._config
        texts = [prompt_text(self._corpus.get(attempt["seed_id"])) for attempt in attempts]
        requests = [
            self._prompts.generation(attempt["kind"], text, seed_of("write", self._seed, attempt["id"]))
            for attempt, text in zip(attempts, llm.truncate(texts, config.passage_tokens), strict=True)
        ]
        stop = tuple(self._prompts.generate.stop)
        sampling = Sampling(config.max_new_tokens, config.temperature, config.top_p, config.top_k, stop)
        for attempt, completion in zip(attempts, llm.generate(requests, sampling), strict=True):
            attempt.update(
                text=completion.text,
                logprob=completion.logprob,
                tokens=completion.tokens,
                finished=completion.finished,
            )


def kind_weights(prompts: PromptSet, config: GenerateConfig) -> dict[str, float]:
    """Weight of every kind of task that may be drawn. Raises `ConfigError` for a kind the prompts do not know."""
    if config.kinds is None:
        return dict.fromkeys(prompts.kinds, 1.0)
    for kind, weight in config.kinds.items():
        if kind not in prompts.kinds:
            raise ConfigError(f"generate.kinds: {kind!r} is not in the prompts; they know {', '.join(prompts.kinds)}")
        if weight < 0:
            raise ConfigError(f"generate.kinds: the weight of {kind!r} is negative")
    chosen = {kind: weight for kind, weight in config.kinds.items() if weight > 0}
    if not chosen:
        raise ConfigError("generate.kinds: no kind has a weight above 0")
    return chosen
