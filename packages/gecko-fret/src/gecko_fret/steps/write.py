"""FRet step 1: the LLM reads a seed passage and writes a task and a query for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gecko_core.errors import ConfigError
from gecko_core.io import Progress
from gecko_core.randomness import generator, seed_of, weighted_order
from gecko_fret.answers import Answer, read_answer
from gecko_fret.config import FILTER_KEYS, NEIGHBOURHOOD, SOURCE_KEYS, WRITING_KEYS, FretConfig, GenerateConfig
from gecko_fret.corpus.passages import Corpus
from gecko_fret.llm import CONTRASTIVE
from gecko_fret.llm.protocol import LLM, Completion, Sampling, ScoreRequest
from gecko_fret.models import llm_settings
from gecko_fret.prompting import Demonstration, PromptSet, load_prompts, prompt_text
from gecko_fret.query_files import queries_fingerprint, read_queries
from gecko_fret.steps.asking import Asker, task_is_given
from gecko_fret.steps.base import BuildContext, PartStep, StepResult, Work
from gecko_fret.steps.corpus import CORPUS
from gecko_fret.steps.examples import EXAMPLES, examples_file, groups, prepare_examples, read_examples
from gecko_fret.steps.neighbourhoods import gather
from gecko_fret.steps.parts import Layout, layout_of, part_count
from gecko_fret.steps.plan import TEMPLATE_TOKENS, Plan, StepCost


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an LLM wrote for a seed passage, as it came; the columns of the parts."""

    id: str
    seed_id: str
    attempt: int
    kind: str
    generator: str
    text: str
    logprob: float
    tokens: int
    finished: bool
    grounding: float | None = None


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """An attempt to be written; ``llm`` numbers the generators, ``examples`` the groups of demonstrations."""

    id: str
    seed_id: str
    attempt: int
    kind: str
    llm: int
    examples: int | None = None


class Write:
    """Ids of seed passages to raw attempts; nothing is judged here, see ``gecko_fret.steps.filter``.

    The task kinds of a seed's attempts are drawn without replacement, uniformly or by weight; the generator of each
    attempt is drawn by its weight, its demonstrations from the groups of examples. All of it depends on the seed
    passage's id, not on the order of the work.

    Args:
        corpus: the passages.
        llms: the generators with their weights.
        prompts: the prompts for writing.
        config: section ``generate``.
        seed: the build's seed.
        examples: demonstrations shown instead of the prompts' own, all of one kind of task.
    """

    def __init__(
        self,
        corpus: Corpus,
        llms: Sequence[tuple[LLM, float]],
        prompts: PromptSet,
        config: GenerateConfig,
        seed: int,
        examples: Sequence[Demonstration] = (),
    ):
        self._corpus, self._llms, self._prompts, self._config, self._seed = corpus, llms, prompts, config, seed
        self._weights = {config.user_task: 1.0} if examples else kind_weights(prompts, config)
        grouped = groups(examples, config.examples_shown, seed)
        self._groups = len(grouped)
        self._askers = [Asker(llm, prompts, config, grouped) for llm, _ in llms]

    def __call__(self, seed_ids: Sequence[str]) -> StepResult[Attempt]:
        """Write the attempts of these seeds, in their order."""
        plans = [plan for seed_id in seed_ids for plan in self._plan(seed_id)]
        before = self._tokens()
        written: dict[str, Attempt] = {}
        for number, (llm, _) in enumerate(self._llms):
            attempts = self._write(self._askers[number], llm, [plan for plan in plans if plan.llm == number])
            written |= {attempt.id: attempt for attempt in attempts}
        spent = [after - earlier for after, earlier in zip(self._tokens(), before, strict=True)]
        return StepResult(
            [written[plan.id] for plan in plans], counters={"prompt_tokens": spent[0], "generated_tokens": spent[1]}
        )

    def _tokens(self) -> tuple[int, int]:
        usages = [llm.usage for llm, _ in self._llms]
        return sum(usage.prompt_tokens for usage in usages), sum(usage.generated_tokens for usage in usages)

    def _plan(self, seed_id: str) -> list[PlannedAttempt]:
        kinds = weighted_order(self._weights, "kind", self._seed, seed_id)
        weights = [weight for _, weight in self._llms]
        plans = []
        for attempt in range(self._config.attempts):
            identifier = f"{seed_id}/{attempt}"
            draw = generator("llm", self._seed, identifier).random() * sum(weights)
            chosen = next((i for i in range(len(weights)) if draw < sum(weights[: i + 1])), len(weights) - 1)
            shown = None
            if self._groups:
                shown = int(generator("examples", self._seed, identifier).integers(self._groups))
            plans.append(PlannedAttempt(identifier, seed_id, attempt, kinds[attempt % len(kinds)], chosen, shown))
        return plans

    def _write(self, asker: Asker, llm: LLM, plans: list[PlannedAttempt]) -> list[Attempt]:
        if not plans:
            return []
        config = self._config
        passages = [prompt_text(self._corpus.get(plan.seed_id)) for plan in plans]
        texts = llm.truncate(passages, config.passage_tokens)
        requests = [
            asker.writing(plan.kind, text, seed_of("write", self._seed, plan.id), plan.examples)
            for plan, text in zip(plans, texts, strict=True)
        ]
        sampling = Sampling(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=config.top_k,
            stop=tuple(self._prompts.generate.stop),
            contrast=config.contrast or 0.0,
            plausible=config.plausible,
        )
        completions = llm.generate(requests, sampling)
        grounding = self._ground(asker, llm, plans, texts, completions) if config.grounds else [None] * len(plans)
        return [
            Attempt(
                id=plan.id,
                seed_id=plan.seed_id,
                attempt=plan.attempt,
                kind=plan.kind,
                generator=llm.name,
                text=completion.text,
                logprob=completion.logprob,
                tokens=completion.tokens,
                finished=completion.finished,
                grounding=value,
            )
            for plan, completion, value in zip(plans, completions, grounding, strict=True)
        ]

    def _ground(
        self, asker: Asker, llm: LLM, plans: list[PlannedAttempt], texts: list[str], completions: list[Completion]
    ) -> list[float | None]:
        """Log P(query | passage) - log P(query), per token, of answers that can be read; None for the others."""
        given = task_is_given(self._prompts, self._config)
        requests: dict[int, list[ScoreRequest]] = {}
        for place, (plan, text, completion) in enumerate(zip(plans, texts, completions, strict=True)):
            answer = read_answer(completion.text, completion.finished, plan.kind, self._prompts, given=given)
            if isinstance(answer, Answer):
                requests[place] = asker.likelihoods(plan.kind, text, answer.query, plan.examples)
        scores = llm.score([request for pair in requests.values() for request in pair])
        grounding: list[float | None] = [None] * len(plans)
        for place, there, without in zip(requests, scores[::2], scores[1::2], strict=True):
            grounding[place] = there.logprob - without.logprob
        return grounding


class WriteStep(PartStep[str, Attempt]):
    """Seed passages to attempts."""

    name = "write"
    section = "generate"
    folder = "attempts"  # folders of version 0.1 call it so
    row = Attempt
    unit = "seeds"
    counted_as = "attempts"
    metered = True
    upstream = (CORPUS,)

    def fingerprint(self, build: BuildContext) -> list[Any]:
        """The seed, the settings of writing, the prompts and the generators; and the examples with what pairs them."""
        config, models = build.config, build.models
        return [
            config.seed,
            writing_settings(config),
            load_prompts(config.generate.prompt).hash,
            [(llm_settings(llm), models.llm_fingerprint(llm), llm.weight) for llm in config.writers],
            *([models.embedder_fingerprint(config.embedder)] if config.generate.examples else []),
        ]

    def layout(self, config: FretConfig) -> Layout[Attempt]:
        """The columns of ``Attempt``; ``grounding`` where it is measured."""
        layout = layout_of(Attempt)
        if config.generate.grounds:
            return layout
        return dataclasses.replace(layout, schema=layout.schema.remove(layout.schema.get_field_index("grounding")))

    def extra_files(self, out: Path) -> list[Path]:
        """The examples' passages."""
        return [examples_file(out)] if examples_file(out).exists() else []

    def owns(self, name: str) -> bool:
        """See ``Step.owns``."""
        return super().owns(name) or name == EXAMPLES

    def clear(self, out: Path) -> None:
        """Delete the attempts, and the examples' passages."""
        super().clear(out)
        examples_file(out).unlink(missing_ok=True)

    def prepare(self, build: BuildContext, progress: Progress) -> None:
        """Find the examples' passages, where the configuration names examples."""
        prepare_examples(build, progress)

    def prompt_hashes(self, config: FretConfig) -> dict[str, str]:
        """The prompts for writing."""
        return {"generate": load_prompts(config.generate.prompt).hash}

    def check(self, config: FretConfig) -> None:
        """See ``Step.check``: kinds that the prompts do not know, and settings that exclude each other."""
        settings = config.generate
        kind_weights(load_prompts(settings.prompt), settings)
        if settings.examples is not None:
            read_queries(settings.examples)
            if settings.kinds is not None:
                raise ConfigError("generate.kinds has no effect beside generate.examples; leave one of them out")
        for llm in config.writers if settings.contrast else ():
            if llm.backend not in CONTRASTIVE:
                raise ConfigError(
                    f"generate.contrast: backend {llm.backend!r} cannot decode so; "
                    f"use {', '.join(sorted(CONTRASTIVE))} or leave it at 0"
                )

    def estimate(self, plan: Plan) -> StepCost:
        """See ``Step.estimate``."""
        config, like = plan.config.generate, plan.like
        seeds = seed_count(plan.config, plan.passages)
        attempts = plan.rows["attempts"] = seeds * config.attempts if "llm" in config.sources else 0
        if not attempts:
            return StepCost("nothing for the LLM to write (generate.sources)")
        requests, tokens = attempts, plan.text_tokens(config.passage_tokens) + TEMPLATE_TOKENS
        if config.contrast:
            tokens += TEMPLATE_TOKENS
        if config.grounds:  # two likelihoods of every attempt, one of them without the passage
            requests += 2 * attempts
            tokens += plan.text_tokens(config.passage_tokens) + 2 * (TEMPLATE_TOKENS + config.max_new_tokens)
        read = float(round(attempts * tokens))
        written, seconds = float(attempts * config.max_new_tokens), 0.0
        known = like is not None and like.counts["attempts"] > 0
        if like is not None and known:
            share = attempts / like.counts["attempts"]
            read = share * like.tokens[self.name]["prompt_tokens"]
            written = share * like.tokens[self.name]["generated_tokens"]
            seconds = share * like.seconds[self.name]
        line = (
            f"{attempts} attempts from {seeds} seeds, {len(load_prompts(config.prompt).kinds)} kinds of task: "
            f"{read:.0f} tokens read, {'about' if known else 'at most'} {written:.0f} written"
        )
        return StepCost(line, requests, read, written, seconds, measured=known)

    def part_count(self, build: BuildContext) -> int:
        """Parts that the seeds fill; none where the LLM writes nothing."""
        return self.seed_parts(build) if "llm" in build.config.generate.sources else 0

    def seed_parts(self, build: BuildContext) -> int:
        """Parts that the seeds fill, whether the LLM writes for them or not."""
        return part_count(seed_count(build.config, len(build.corpus)), build.config.generate.part_size)

    def units(self, build: BuildContext, number: int) -> int:
        """Seeds of part ``number``."""
        size = build.config.generate.part_size
        return min(size, seed_count(build.config, len(build.corpus)) - number * size)

    def inputs(self, build: BuildContext, number: int) -> Sequence[str]:
        """Ids of the seeds of part ``number``."""
        config = build.config
        rows = build.keep("seeds", lambda: draw_seeds(build.corpus, config))
        size = config.generate.part_size
        return [build.corpus[row].id for row in rows[number * size : (number + 1) * size]]

    def make(self, build: BuildContext) -> Work[str, Attempt]:
        """Load the generators."""
        config = build.config
        llms = [(build.models.llm(llm), llm.weight) for llm in config.writers]
        prompts, examples = load_prompts(config.generate.prompt), read_examples(build)
        return Write(build.corpus, llms, prompts, config.generate, config.seed, examples)


WRITE = WriteStep()


def writing_settings(config: FretConfig) -> dict[str, Any]:
    """The settings that decide what is written, as the fingerprint has them.

    Settings that version 0.1 had not are left out where they ask for what it did, so that its folders stay valid.
    """
    settings = config.generate.model_dump(exclude=FILTER_KEYS | SOURCE_KEYS)
    if settings["examples"] is not None:
        settings["examples"] = queries_fingerprint(settings["examples"])
    else:
        settings |= {name: WRITING_KEYS[name] for name in ("examples_shown", "examples_instruction", "user_task")}
    if not settings["contrast"]:
        settings["plausible"] = WRITING_KEYS["plausible"]
    kept = {name: value for name, value in settings.items() if name not in WRITING_KEYS or value != WRITING_KEYS[name]}
    return kept | ({"grounding": True} if config.generate.grounds else {})


def seed_count(config: FretConfig, passages: int) -> int:
    """How many of a corpus' passages the build uses as seeds."""
    return passages if config.generate.seeds is None else min(config.generate.seeds, passages)


def draw_seeds(corpus: Corpus, config: FretConfig) -> list[int]:
    """Rows of the seeds in their order: one by one, or as neighbourhoods (``generate.neighbourhoods``)."""
    rows = sample_seeds(corpus, config.generate.seeds, config.seed)
    size = config.generate.neighbourhoods
    if size is None:  # a draw of much of the corpus has the neighbours in it already
        size = NEIGHBOURHOOD if len(rows) * 4 < len(corpus) else 1
    return gather(corpus, rows, size, config.seed) if size > 1 else rows


def sample_seeds(corpus: Corpus, count: int | None, seed: int) -> list[int]:
    """Draw the passages that queries are written for.

    Where passages name their ``source``, every source gets its share of ``count``, by largest remainder.

    Args:
        corpus: the passages.
        count: how many; None: all.
        seed: decides the draw and its order.

    Returns:
        Rows of the corpus, in random order.
    """
    total = len(corpus)
    if count is None or count >= total:
        return generator("seeds", seed).permutation(total).tolist()
    sources = corpus.table["source"].to_pylist()
    if len(set(sources)) == 1:
        return generator("seeds", seed).permutation(total)[:count].tolist()
    groups: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        groups.setdefault(source or "", []).append(row)
    names = sorted(groups)
    shares = np.array([len(groups[name]) for name in names]) * (count / total)
    quota = np.floor(shares).astype(int)
    for extra in np.argsort(-(shares - quota), kind="stable")[: count - int(quota.sum())]:
        quota[extra] += 1
    chosen = [
        row
        for name, take in zip(names, quota, strict=True)
        for row in generator("seeds", seed, name).permutation(groups[name])[:take].tolist()
    ]
    return generator("seeds-order", seed).permutation(chosen).tolist()


def kind_weights(prompts: PromptSet, config: GenerateConfig) -> dict[str, float]:
    """Weight of every kind of task that may be drawn.

    Raises:
        ConfigError: a kind that the prompts do not know, a negative weight, or no kind with a weight.
    """
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
